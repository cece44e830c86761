"""Every table has an end, and rows that ended long ago are removed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from ragsvc import retention
from ragsvc.domain.ids import new_id
from ragsvc.retention import sweep_ended_rows
from tests.docs.pages import section_of

if TYPE_CHECKING:
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources

TABLES = """
SELECT relname FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
"""
ADD_JOB = """
INSERT INTO jobs (workspace_id, id, queue, kind, subject_kind, subject_id, max_attempts, status, finished_at,
    last_failed_at, lease_token, lease_until)
VALUES ($1, $2::uuid, 'deletion', $3, 'delivery', $2::uuid, 1, $4, now() - make_interval(days => $5),
    now() - make_interval(days => $5), CASE WHEN $4 = 'running' THEN $2::uuid END,
    CASE WHEN $4 = 'running' THEN now() END)
"""
ADD_UPLOAD = """
INSERT INTO upload_sessions (workspace_id, id, status, object_key, filename, mime_type, expires_at, updated_at,
    cleaned_at)
VALUES ($1, $2, $3, 'k', 'f.txt', 'text/plain', now() + interval '1 day', now() - make_interval(days => $4),
    CASE WHEN $5 THEN now() END)
"""
ADD_KEY = """
INSERT INTO api_keys (workspace_id, id, name, key_hash, key_prefix, scopes, revoked_at, expires_at)
VALUES ($1, $2, 'n', decode(repeat('00', 32), 'hex'), 'p', '{read}', now() - make_interval(days => $3),
    now() + make_interval(days => $4))
"""
ADD_CALL = """
INSERT INTO idempotency_keys (workspace_id, key, call_hash, resource_id, seed, token, lease_until, status, created_at)
VALUES ($1, $2, '', $3, '', $3, now(), 200, now() - make_interval(hours => $4))
"""
ADD_OPERATION = """
INSERT INTO bulk_operations (workspace_id, id, action, matched, status, created_at)
VALUES ($1, $2, 'delete', 0, $3, now() - make_interval(days => $4))
"""


async def test_the_operations_page_names_every_table(resources: Resources) -> None:
    async with resources.pool.acquire() as conn:
        tables = {re.sub(r"_\d+$", "", row["relname"]) for row in await conn.fetch(TABLES)}
    rows = [line for line in section_of("docs/operations.md", "Retention").splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == tables


@pytest.mark.parametrize(
    ("status", "kind", "days", "is_left"),
    [
        *((status, "deliver", 8, False) for status in ("done", "discarded", "superseded", "cancelled")),
        ("done", "deliver", 6, True),
        ("queued", "deliver", 999, True),
        ("running", "deliver", 999, True),
        ("dead", "deliver", 91, False),
        ("dead", "deliver", 89, True),
        ("dead", "delete", 999, True),
    ],
)
async def test_jobs_are_removed_after_they_ended(
    resources: Resources, workspace: Workspace, status: str, kind: str, days: int, *, is_left: bool
) -> None:
    job_id = new_id()
    async with resources.pool.acquire() as conn:
        await conn.execute(ADD_JOB, workspace.id, job_id, kind, status, days)
    await sweep_ended_rows(resources)
    async with resources.pool.acquire() as conn:
        assert (await conn.fetchval("SELECT count(*) FROM jobs WHERE id = $1", job_id) == 1) is is_left


async def test_whatever_else_has_ended_is_removed_after_its_time(resources: Resources, workspace: Workspace) -> None:
    async with resources.pool.acquire() as conn:
        for status, days, is_clean in (
            ("aborted", 8, True),
            ("aborted", 6, True),
            ("aborted", 8, False),
            ("pending", 8, False),
        ):
            await conn.execute(ADD_UPLOAD, workspace.id, new_id(), status, days, is_clean)
        for revoked_days, valid_days in ((91, None), (None, -91), (89, None), (None, 1)):
            await conn.execute(ADD_KEY, workspace.id, new_id(), revoked_days, valid_days)
        for hours in (25, 23):
            await conn.execute(ADD_CALL, workspace.id, str(hours), new_id(), hours)
        for status, days in (("completed", 91), ("failed", 91), ("completed", 89), ("running", 91)):
            await conn.execute(ADD_OPERATION, workspace.id, new_id(), status, days)
    await sweep_ended_rows(resources)
    async with resources.pool.acquire() as conn:
        left = {
            table: await conn.fetchval(f"SELECT count(*) FROM {table} WHERE workspace_id = $1", workspace.id)  # noqa: S608
            for table in ("upload_sessions", "api_keys", "idempotency_keys", "bulk_operations")
        }
    assert left == {"upload_sessions": 3, "api_keys": 2, "idempotency_keys": 1, "bulk_operations": 2}


async def test_a_table_that_cannot_be_swept_stops_no_other(
    resources: Resources, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_arguments: object, **_named: object) -> int:
        raise RuntimeError("this table refuses")

    monkeypatch.setattr(retention, "DELETIONS", (fail, *retention.DELETIONS))
    async with resources.pool.acquire() as conn:
        await conn.execute(ADD_CALL, workspace.id, "old", new_id(), 25)
    await sweep_ended_rows(resources)
    async with resources.pool.acquire() as conn:
        assert await conn.fetchval("SELECT count(*) FROM idempotency_keys") == 0

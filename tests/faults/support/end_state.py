"""Assertions on Postgres, Redis and the store after a fault: nothing is lost and nothing is doubled."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from ragsvc.db import dead_jobs, jobs
from ragsvc.domain.ids import format_id
from ragsvc.domain.jobs import DeadLetterFilter, Job, JobStatus, Queue
from ragsvc.jobs.dead_letters import entry_id
from tests.faults.support.fleet import SOON_S
from tests.faults.support.texts import chunks_of
from tests.support.polling import until
from tests.support.servers.redis import command

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ragsvc.db.connections.pool import Record
    from ragsvc.domain.documents import Document
    from ragsvc.domain.workspaces import Workspace
    from tests.faults.support.fleet import Fleet

SELECT_DOCUMENTS = """
SELECT d.id, d.status, d.version, d.active_build, d.chunk_count, d.error, f.object_key, w.bucket
FROM documents d JOIN files f ON f.workspace_id = d.workspace_id AND f.id = d.file_id
JOIN workspaces w ON w.id = d.workspace_id WHERE d.workspace_id = $1
"""
SELECT_HASHES = """
SELECT content_hash FROM chunk_text WHERE workspace_id = $1 AND document_id = $2 AND build_id = $3 ORDER BY ordinal
"""
# Rows that belong to no document's active build.
COUNT_STRAYS = """
SELECT count(*) FROM {table} t WHERE t.workspace_id = $1 AND NOT EXISTS (
    SELECT FROM documents d
    WHERE d.workspace_id = t.workspace_id AND d.id = t.document_id AND d.active_build = t.build_id)
"""
COUNT_UNPAIRED = """
SELECT count(*) FROM (SELECT id FROM chunk_text WHERE workspace_id = $1) t
FULL JOIN (SELECT chunk_id FROM chunk_vec_1 WHERE workspace_id = $1) v ON v.chunk_id = t.id
WHERE t.id IS NULL OR v.chunk_id IS NULL
"""
COUNT_ACTIVE = "SELECT count(*) FROM jobs WHERE workspace_id = $1 AND status IN ('queued', 'running')"
SELECT_JOB_ID = "SELECT id FROM jobs WHERE workspace_id = $1 AND subject_id = $2 AND queue = $3"
TABLES = ("chunk_text", "chunk_vec_1", "canonical_text")


async def until_settled(fleet: Fleet, workspace: Workspace, *, timeout_s: float = SOON_S) -> None:
    """Wait until no job of the workspace is queued or running."""

    async def is_settled() -> bool:
        async with fleet.resources.pool.acquire() as conn:
            return bool(await conn.fetchval(COUNT_ACTIVE, workspace.id) == 0)

    await until(is_settled, timeout_s=timeout_s, what="the end of every job")


async def assert_ready_once(
    fleet: Fleet, workspace: Workspace, documents: Sequence[Document], *, timeout_s: float = SOON_S
) -> None:
    """Wait until all jobs have ended, and assert that these documents are ready and indexed exactly once."""
    await until_settled(fleet, workspace, timeout_s=timeout_s)
    rows = await select_documents(fleet, workspace)
    assert set(rows) == {document.id for document in documents}
    assert [(row["status"], row["version"], row["error"]) for row in rows.values()] == [("ready", 1, None)] * len(rows)
    await assert_consistent(fleet, workspace)


async def assert_consistent(fleet: Fleet, workspace: Workspace) -> None:
    """Assert that ready documents have their chunks once and others have none, and check Redis and the store."""
    rows = await select_documents(fleet, workspace)
    async with fleet.resources.pool.acquire() as conn:
        for document_id, row in rows.items():
            found = [
                hash_["content_hash"]
                for hash_ in await conn.fetch(SELECT_HASHES, workspace.id, document_id, row["active_build"])
            ]
            expected = chunks_of(fleet.contents[document_id], fleet.settings) if row["status"] == "ready" else []
            assert found == expected
            assert row["chunk_count"] == len(expected)
    # The sweeper removes leftovers of a killed worker with some delay.
    await until(partial(_has_no_strays, fleet, workspace), timeout_s=SOON_S, what="the removal of leftover rows")
    for row in rows.values():
        assert await fleet.resources.storage.object_exists(row["bucket"], row["object_key"])
    await assert_redis_agrees(fleet)


async def assert_redis_agrees(fleet: Fleet) -> None:
    """Wait until Redis has no notification and lists exactly the dead jobs."""
    for queue in Queue:
        await until(partial(_is_empty, fleet, queue), timeout_s=SOON_S, what=f"an empty {queue} queue")
        await until(partial(_lists_dead_jobs, fleet, queue), timeout_s=SOON_S, what=f"the {queue} list")


async def assert_dead(fleet: Fleet, document: Document, *, code: str, attempts: int) -> None:
    """Assert that the document failed with this code after this many attempts, and is listed as a dead letter."""
    job = await job_of(fleet, document)
    assert job.error is not None
    assert (job.status, job.error["code"], job.attempts) == (JobStatus.DEAD, code, attempts)
    row = (await select_documents(fleet, document))[document.id]
    assert (row["status"], row["error"]["code"]) == ("failed", code)
    await until(partial(_lists_dead_jobs, fleet, Queue.INGESTION), timeout_s=SOON_S, what="the list of dead letters")
    assert format_id("job", job.id) in {entry["job_id"] for entry in await list_dead(fleet, Queue.INGESTION)}


async def select_documents(fleet: Fleet, of: Workspace | Document) -> dict[UUID, Record]:
    """Return the rows of a workspace's documents by id."""
    workspace_id = getattr(of, "workspace_id", of.id)
    async with fleet.resources.pool.acquire() as conn:
        return {row["id"]: row for row in await conn.fetch(SELECT_DOCUMENTS, workspace_id)}


async def job_of(fleet: Fleet, document: Document, queue: Queue = Queue.INGESTION) -> Job:
    """Return the document's only job on the queue."""
    async with fleet.resources.pool.acquire() as conn:
        (row,) = await conn.fetch(SELECT_JOB_ID, document.workspace_id, document.id, queue)
        job = await jobs.select_job(conn, row["id"])
    assert job is not None
    return job


async def list_dead(fleet: Fleet, queue: Queue) -> list[dict[str, Any]]:
    """Return the entries of the queue's list of dead letters."""
    key = f"{fleet.settings.stores.queue_prefix}:{queue}:dlq"
    return [orjson.loads(entry) for entry in await command(fleet.resources.redis, "LRANGE", key, 0, -1)]


async def _has_no_strays(fleet: Fleet, workspace: Workspace) -> bool:
    async with fleet.resources.pool.acquire() as conn:
        strays = [await conn.fetchval(COUNT_STRAYS.format(table=table), workspace.id) for table in TABLES]
        return not any([*strays, await conn.fetchval(COUNT_UNPAIRED, workspace.id)])


async def _is_empty(fleet: Fleet, queue: Queue) -> bool:
    return bool(await fleet.resources.redis.zcard(f"{fleet.settings.stores.queue_prefix}:{queue}") == 0)


async def _lists_dead_jobs(fleet: Fleet, queue: Queue) -> bool:
    async with fleet.resources.pool.acquire() as conn:
        dead = await dead_jobs.select_dead_jobs(conn, queue, DeadLetterFilter(), limit=10_000)
    listed = [entry["entry_id"] for entry in await list_dead(fleet, queue)]
    return sorted(listed) == sorted(entry_id(job) for job in dead)

"""Statements that follow an id through the tables, for operators: jobs, runs and audit events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.db.audit_events import COLUMNS as AUDIT_COLUMNS
from ragsvc.db.audit_events import to_audit_event
from ragsvc.db.jobs import COLUMNS as JOB_COLUMNS
from ragsvc.db.jobs import to_job

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.audit import AuditEvent
    from ragsvc.domain.jobs import Job

# An id is unique, but keys begin with the workspace: each statement looks into every workspace's range of the index.
SELECT_SUBJECTS = """
SELECT d.id FROM workspaces w JOIN documents d ON d.workspace_id = w.id AND d.file_id = $1
UNION ALL
SELECT r.subject_id FROM workspaces w JOIN deletion_receipts r ON r.workspace_id = w.id AND r.id = $1
LIMIT $2
"""

SELECT_TRACED_JOBS = f"""
SELECT {JOB_COLUMNS} FROM jobs WHERE id = $1
UNION ALL
SELECT {JOB_COLUMNS} FROM jobs
WHERE workspace_id = ANY (ARRAY(SELECT id FROM workspaces)) AND subject_id = ANY($2::uuid[]) AND id <> $1
LIMIT $3
"""

# Ids begin with the time, so a request's jobs are in a range of the index on ids.
SELECT_JOBS_OF_REQUEST = f"""
SELECT {JOB_COLUMNS} FROM jobs WHERE id >= $2 AND trace_id = $1 ORDER BY id LIMIT $3
"""

SELECT_TRACED_RUNS = """
SELECT r.id, r.workspace_id, r.session_id, r.message_id, r.user_message_id, r.status, r.error, r.lease_owner,
       r.created_at, r.finished_at
FROM workspaces w, LATERAL (
    SELECT * FROM chat_runs r WHERE r.workspace_id = w.id AND r.id = $1
    UNION ALL
    SELECT * FROM chat_runs r WHERE r.workspace_id = w.id AND r.session_id = $1
    UNION ALL
    SELECT r.* FROM chat_messages m JOIN chat_runs r ON r.workspace_id = w.id AND r.id = m.run_id
    WHERE m.workspace_id = w.id AND m.id = $1
) r
ORDER BY r.id DESC LIMIT $2
"""

SELECT_EVENTS_OF_REQUESTS = f"""
SELECT {AUDIT_COLUMNS} FROM audit_events WHERE id >= $2 AND request_id = ANY($1::text[]) ORDER BY id LIMIT $3
"""


@dataclass(frozen=True, slots=True)
class TracedRun:
    """A run, as operators see it: without texts."""

    id: UUID
    workspace_id: UUID
    session_id: UUID
    message_id: UUID
    user_message_id: UUID
    status: str
    error: dict[str, object] | None
    lease_owner: str | None
    created_at: datetime
    finished_at: datetime | None


async def select_traced_jobs(conn: Connection, traced: UUID, *, limit: int) -> list[Job]:
    """Return the job with this id, and the jobs of the subject with this id or that the file or deletion refers to."""
    subjects = [row["id"] for row in await conn.fetch(SELECT_SUBJECTS, traced, limit)]
    return [to_job(row) for row in await conn.fetch(SELECT_TRACED_JOBS, traced, [traced, *subjects], limit)]


async def select_jobs_of_request(conn: Connection, request_id: str, *, since: UUID, limit: int) -> list[Job]:
    """Return the jobs that a request queued; `since` is the lowest id that they can have."""
    return [to_job(row) for row in await conn.fetch(SELECT_JOBS_OF_REQUEST, request_id, since, limit)]


async def select_traced_runs(conn: Connection, traced: UUID, *, limit: int) -> list[TracedRun]:
    """Return the run with this id, or the runs of the message or session with this id, newest first."""
    return [TracedRun(**row) for row in await conn.fetch(SELECT_TRACED_RUNS, traced, limit)]


async def select_events_of_requests(
    conn: Connection, request_ids: Sequence[str], *, since: UUID, limit: int
) -> list[AuditEvent]:
    """Return the audit events of requests; `since` is the lowest id that they can have."""
    rows = await conn.fetch(SELECT_EVENTS_OF_REQUESTS, list(request_ids), since, limit)
    return [to_audit_event(row) for row in rows]

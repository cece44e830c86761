"""The table jobs, as the sweeper and the outages look at it: jobs that are late, silent or failing alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.db.jobs import COLUMNS, to_job

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.jobs import Job, Queue

SELECT_EXPIRED_LEASES = f"""
SELECT {COLUMNS} FROM jobs WHERE queue = $1 AND status = 'running' AND lease_until < now()
ORDER BY lease_until LIMIT $2
"""

# One queue at a time, so that the backlog of one does not hide the jobs of another.
SELECT_OVERDUE_JOBS = f"""
SELECT {COLUMNS} FROM jobs
WHERE queue = $1 AND status = 'queued' AND kind <> 'deliver' AND run_at < now() - make_interval(secs => $2)
  AND ($4::timestamptz IS NULL OR (run_at, id) > ($4, $5::uuid))
  AND NOT EXISTS (SELECT FROM queue_state q WHERE q.queue = jobs.queue AND q.paused)
ORDER BY run_at, id LIMIT $3
"""

SELECT_ACTIVE_GENERATIONS = (
    "SELECT id, generation FROM jobs WHERE id = ANY($1::uuid[]) AND status IN ('queued', 'running')"
)

# Counts recent temporary failures; the result is 0 if the queue recently finished a job. `run_at` is never before the
# failure, so the condition on it excludes nothing; it only lets the query use the index.
COUNT_ALIKE = """
SELECT count(*) FROM jobs
WHERE queue = $1 AND status = 'queued' AND kind <> 'deliver' AND error ->> 'code' = $2
  AND run_at > now() - make_interval(secs => $3) AND last_failed_at > now() - make_interval(secs => $3)
  AND NOT EXISTS (
    SELECT FROM jobs d WHERE d.queue = $1 AND d.status = 'done' AND d.finished_at > now() - make_interval(secs => $3)
  )
"""

# Jobs that have waited too long for the end of an outage, since their first failure or since the outage delayed them.
SELECT_STRANDED_JOBS = f"""
SELECT {COLUMNS} FROM jobs
WHERE queue = $1 AND status = 'queued' AND kind <> 'deliver'
  AND coalesce(first_failed_at, greatest(run_at, $2)) < now() - make_interval(secs => $3)
ORDER BY run_at LIMIT $4
"""


async def select_expired_leases(conn: Connection, queue: Queue, *, limit: int) -> list[Job]:
    """Return running jobs of the queue whose lease has expired."""
    return [to_job(row) for row in await conn.fetch(SELECT_EXPIRED_LEASES, queue, limit)]


async def select_overdue_jobs(
    conn: Connection, queue: Queue, *, grace_s: float, limit: int, after: Job | None = None
) -> list[Job]:
    """Return queued jobs that have been due for more than `grace_s` seconds, oldest first, from behind `after`."""
    run_at, job_id = (after.run_at, after.id) if after else (None, None)
    return [to_job(row) for row in await conn.fetch(SELECT_OVERDUE_JOBS, queue, grace_s, limit, run_at, job_id)]


async def select_active_generations(conn: Connection, job_ids: Sequence[UUID]) -> dict[UUID, int]:
    """Return the generations of those jobs that are queued or running."""
    return {row["id"]: row["generation"] for row in await conn.fetch(SELECT_ACTIVE_GENERATIONS, list(job_ids))}


async def count_alike(conn: Connection, *, queue: Queue, code: str, within_s: float) -> int:
    """Return how many queued jobs failed with the code recently; 0 if the queue finished a job in that time."""
    alike: int = await conn.fetchval(COUNT_ALIKE, queue, code, within_s)
    return alike


async def select_stranded_jobs(
    conn: Connection, *, queue: Queue, since: datetime, max_age_s: float, limit: int
) -> list[Job]:
    """Return jobs that have waited longer than `max_age_s` for the end of an outage that started at `since`."""
    return [to_job(row) for row in await conn.fetch(SELECT_STRANDED_JOBS, queue, since, max_age_s, limit)]

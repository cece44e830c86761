"""Dead letters in the table jobs: jobs that failed permanently and have not been replayed or discarded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.db.jobs import COLUMNS, to_job, to_job_or_none
from ragsvc.domain.jobs import DeadLetterNames, Queue

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.jobs import DeadLetterFilter, Job, JobStatus, SubjectKind

_MATCHING = """
FROM jobs
WHERE queue = $1 AND status = 'dead'
  AND ($2::text IS NULL OR error ->> 'code' = $2)
  AND ($3::uuid IS NULL OR workspace_id = $3)
  AND ($4::timestamptz IS NULL OR last_failed_at >= $4)
  AND ($5::uuid[] IS NULL OR id = ANY($5) OR subject_id = ANY($5))
"""
_NEWEST_FIRST = "ORDER BY last_failed_at DESC, id LIMIT $6"

# Dead letters change while a client pages through them, so the next page starts after the last entry shown.
SELECT_DEAD_JOBS = f"""
SELECT {COLUMNS} {_MATCHING}
  AND ($8::timestamptz IS NULL OR last_failed_at < $8 OR (last_failed_at = $8 AND id > $9))
{_NEWEST_FIRST} OFFSET $7
"""

SELECT_DEAD_JOBS_BY_ID = f"""
SELECT {COLUMNS} FROM jobs WHERE queue = $1 AND status = 'dead' AND id = ANY($2::uuid[])
ORDER BY last_failed_at DESC, id
"""

# Only ids and generations: the traceback of a dead letter can be up to 8 kB.
SELECT_DEAD_GENERATIONS = f"SELECT id, generation {_MATCHING} {_NEWEST_FIRST}"

REPLAY_JOB = f"""
UPDATE jobs SET status = 'queued', generation = generation + 1, replay_count = replay_count + 1, attempts = 0,
    rescues = 0, progress = 0, run_at = now(), finished_at = NULL, first_failed_at = NULL
WHERE workspace_id = $1 AND id = $2 AND status = 'dead' AND generation = $3
RETURNING {COLUMNS}
"""

# A job that died again is a new dead letter.
UPDATE_DEAD_STATUS = """
UPDATE jobs SET status = $3 WHERE workspace_id = $1 AND id = $2 AND status = 'dead' AND generation = $4
"""

SELECT_DEAD_NAMES = """
SELECT j.id, w.name AS workspace_name, f.filename
FROM jobs j LEFT JOIN workspaces w ON w.id = j.workspace_id
LEFT JOIN documents d ON d.workspace_id = j.workspace_id AND d.id = j.subject_id AND j.subject_kind = 'document'
LEFT JOIN files f ON f.workspace_id = d.workspace_id AND f.id = coalesce(d.pending_file_id, d.file_id)
WHERE j.id = ANY($1::uuid[])
"""

SELECT_DEAD_COUNTS = """
SELECT error ->> 'code' AS code, count(*) AS jobs FROM jobs WHERE queue = $1 AND status = 'dead'
GROUP BY 1 ORDER BY 2 DESC, 1
"""

SELECT_DEAD_AGES = """
SELECT queue, extract(epoch FROM now() - min(last_failed_at))::float8 AS age_s FROM jobs WHERE status = 'dead'
GROUP BY queue
"""

SUPERSEDE_DEAD_JOBS = """
UPDATE jobs SET status = 'superseded'
WHERE workspace_id = $1 AND queue = $2 AND subject_kind = $3 AND subject_id = $4 AND status = 'dead'
"""


async def select_dead_jobs(
    conn: Connection,
    queue: Queue,
    filters: DeadLetterFilter,
    *,
    limit: int,
    offset: int = 0,
    after: tuple[datetime, UUID] | None = None,
) -> list[Job]:
    """Return dead letters, newest first, without the first `offset`; `after` is the (time, id) of the last one seen."""
    rows = await conn.fetch(SELECT_DEAD_JOBS, queue, *_matching(filters), limit, offset, *(after or (None, None)))
    return [to_job(row) for row in rows]


async def select_dead_jobs_by_id(conn: Connection, queue: Queue, job_ids: Sequence[UUID]) -> list[Job]:
    """Return those of the jobs that are dead, newest first."""
    return [to_job(row) for row in await conn.fetch(SELECT_DEAD_JOBS_BY_ID, queue, job_ids)]


async def select_dead_generations(
    conn: Connection, queue: Queue, filters: DeadLetterFilter, *, limit: int
) -> dict[UUID, int]:
    """Return the job ids of dead letters, each with the generation that died, newest first."""
    rows = await conn.fetch(SELECT_DEAD_GENERATIONS, queue, *_matching(filters), limit)
    return {row["id"]: row["generation"] for row in rows}


async def replay_job(conn: Connection, job: Job) -> Job | None:
    """Queue a dead letter as a new job; return None if it is no longer dead or has died again."""
    return to_job_or_none(await conn.fetchrow(REPLAY_JOB, job.workspace_id, job.id, job.generation))


async def update_dead_status(conn: Connection, job: Job, *, status: JobStatus) -> bool:
    """Set a dead letter to `superseded` or `discarded`; return False if it is no longer dead or has died again."""
    return await conn.execute(UPDATE_DEAD_STATUS, job.workspace_id, job.id, status, job.generation) == "UPDATE 1"


async def select_dead_names(conn: Connection, job_ids: Sequence[UUID]) -> dict[UUID, DeadLetterNames]:
    """Return the names of the workspaces and files of jobs."""
    rows = await conn.fetch(SELECT_DEAD_NAMES, job_ids)
    return {row["id"]: DeadLetterNames(row["workspace_name"], row["filename"]) for row in rows}


async def select_dead_counts(conn: Connection, *, queue: Queue) -> dict[str, int]:
    """Return the number of dead letters by error code."""
    return {row["code"]: row["jobs"] for row in await conn.fetch(SELECT_DEAD_COUNTS, queue)}


async def select_dead_ages(conn: Connection) -> dict[Queue, float]:
    """Return the age of the oldest dead letter in seconds, for each queue that has any."""
    return {Queue(row["queue"]): row["age_s"] for row in await conn.fetch(SELECT_DEAD_AGES)}


async def supersede_dead_jobs(
    conn: Connection, workspace_id: UUID, *, queue: Queue, subject_kind: SubjectKind, subject_id: UUID
) -> None:
    """Mark the dead letters of a subject as superseded by a newer job."""
    await conn.execute(SUPERSEDE_DEAD_JOBS, workspace_id, queue, subject_kind, subject_id)


def _matching(filters: DeadLetterFilter) -> tuple[object, ...]:
    ids = list(filters.ids) if filters.ids is not None else None
    return filters.code, filters.workspace_id, filters.since, ids

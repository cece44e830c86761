"""The table jobs, the source of truth of the queues. All times are from Postgres, not from workers' clocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.domain.jobs import Job, JobKind, JobStatus, Queue, SubjectKind

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection, Record

COLUMNS = """
workspace_id, id, queue, kind, subject_kind, subject_id, payload, status, stage, progress, attempts, max_attempts,
rescues, run_at, generation, lease_owner, lease_token, lease_until, cancel_requested, error, first_failed_at,
last_failed_at, replay_count, trace_id, created_at, claimed_at
"""

INSERT_JOB = f"""
INSERT INTO jobs (workspace_id, id, queue, kind, subject_kind, subject_id, payload, max_attempts, trace_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
RETURNING {COLUMNS}
"""

SELECT_JOB = f"SELECT {COLUMNS} FROM jobs WHERE id = $1"

SELECT_ACTIVE_JOB = f"""
SELECT {COLUMNS} FROM jobs
WHERE workspace_id = $1 AND queue = $2 AND subject_kind = $3 AND subject_id = $4 AND status IN ('queued', 'running')
"""

# A takeover from a dead worker counts as a rescue, not as an attempt: the job is not necessarily the cause.
CLAIM_JOB = f"""
UPDATE jobs SET
    status = 'running', lease_owner = $2, lease_token = $3, lease_until = now() + make_interval(secs => $4),
    claimed_at = now(),
    attempts = attempts + (status = 'queued')::integer,
    rescues = rescues + (status = 'running')::integer,
    generation = generation + (status = 'running')::integer
WHERE id = $1
  AND queue = $5
  AND (status = 'queued' AND run_at <= now() OR status = 'running' AND lease_until < now())
  AND NOT EXISTS (SELECT FROM queue_state q WHERE q.queue = jobs.queue AND q.paused)
RETURNING {COLUMNS}
"""

RENEW_LEASE = """
UPDATE jobs SET lease_until = now() + make_interval(secs => $4)
WHERE workspace_id = $1 AND id = $2 AND lease_token = $3
"""

FENCE = "SELECT FROM jobs WHERE workspace_id = $1 AND id = $2 AND lease_token = $3 FOR SHARE"

# Progress beyond that of any earlier attempt resets the rescues, since the job is not in a crash loop.
UPDATE_PROGRESS = """
UPDATE jobs SET stage = $4, progress = greatest(progress, $5),
    rescues = CASE WHEN $5 > progress + 0.005 THEN 0 ELSE rescues END
WHERE workspace_id = $1 AND id = $2 AND lease_token = $3
"""

UPDATE_PARTS_DONE = """
UPDATE jobs SET progress = greatest(progress, $4), rescues = 0
WHERE workspace_id = $1 AND id = $2 AND lease_token = $3
"""

FINISH_JOB = """
UPDATE jobs SET status = 'done', finished_at = now(), lease_owner = NULL, lease_token = NULL, lease_until = NULL,
    error = NULL
WHERE workspace_id = $1 AND id = $2 AND lease_token = $3
"""

RETRY_JOB = f"""
UPDATE jobs SET status = 'queued', generation = generation + 1, run_at = now() + make_interval(secs => $4),
    attempts = attempts - CASE WHEN $6 THEN 0 ELSE 1 END, error = $5,
    first_failed_at = coalesce(first_failed_at, now()), last_failed_at = now(),
    lease_owner = NULL, lease_token = NULL, lease_until = NULL
WHERE workspace_id = $1 AND id = $2 AND lease_token = $3
RETURNING {COLUMNS}
"""

HAND_BACK_JOB = f"""
UPDATE jobs SET status = 'queued', generation = generation + 1, run_at = now(), attempts = attempts - 1,
    lease_owner = NULL, lease_token = NULL, lease_until = NULL
WHERE workspace_id = $1 AND id = $2 AND lease_token = $3
RETURNING {COLUMNS}
"""

BURY_JOB = f"""
UPDATE jobs SET status = 'dead', error = $4, is_owner_fault = coalesce($4::jsonb ->> 'fault' = 'owner', false),
    first_failed_at = coalesce(first_failed_at, now()),
    last_failed_at = now(), finished_at = now(), lease_owner = NULL, lease_token = NULL, lease_until = NULL
WHERE workspace_id = $1 AND id = $2 AND lease_token = $3
RETURNING {COLUMNS}
"""

BURY_WAITING_JOB = f"""
UPDATE jobs SET status = 'dead', error = $4, is_owner_fault = coalesce($4::jsonb ->> 'fault' = 'owner', false),
    first_failed_at = coalesce(first_failed_at, now()),
    last_failed_at = now(), finished_at = now()
WHERE workspace_id = $1 AND id = $2 AND status = 'queued' AND generation = $3
RETURNING {COLUMNS}
"""

# A running job loses its lease, so `fence` rejects all further writes of its worker.
CANCEL_ACTIVE_JOBS = """
UPDATE jobs SET status = 'cancelled', cancel_requested = true, finished_at = now(),
    lease_owner = NULL, lease_token = NULL, lease_until = NULL
WHERE workspace_id = $1 AND queue = $2 AND subject_kind = $3 AND subject_id = $4 AND status IN ('queued', 'running')
"""

# A job that waits for its next attempt can be replaced; one that is due may be claimed at any moment. The time is that
# of the wall clock, because a transaction that began after this one may have added the job.
CANCEL_DELAYED_JOB = """
UPDATE jobs SET status = 'cancelled', finished_at = now()
WHERE workspace_id = $1 AND id = $2 AND status = 'queued' AND run_at > clock_timestamp()
"""

CANCEL_JOB = """
UPDATE jobs SET status = 'cancelled', finished_at = now(), lease_owner = NULL, lease_token = NULL, lease_until = NULL
WHERE workspace_id = $1 AND id = $2 AND lease_token = $3
"""


RESCUE_JOB = f"""
UPDATE jobs SET status = 'queued', generation = generation + 1, rescues = rescues + 1, attempts = attempts - 1,
    run_at = now(), lease_owner = NULL, lease_token = NULL, lease_until = NULL
WHERE workspace_id = $1 AND id = $2 AND status = 'running' AND lease_until < now()
RETURNING {COLUMNS}
"""


# A transaction-level lock, which cannot leak behind a transaction pooler.
TRY_LOCK = """
SELECT pg_try_advisory_xact_lock(hashtext($1)) FROM set_config('idle_in_transaction_session_timeout', $2, true)
"""

LIMIT_LOCK_WAIT = "SELECT set_config('lock_timeout', $1, true)"


async def insert_job(
    conn: Connection,
    workspace_id: UUID,
    job_id: UUID,
    *,
    queue: Queue,
    kind: JobKind,
    subject_kind: SubjectKind,
    subject_id: UUID,
    payload: dict[str, object],
    max_attempts: int,
    trace_id: str | None,
) -> Job:
    """Add a queued job; raise UniqueViolation if the subject already has an active job."""
    row = await conn.fetchrow(
        INSERT_JOB, workspace_id, job_id, queue, kind, subject_kind, subject_id, payload, max_attempts, trace_id
    )
    return to_job(row)


async def select_job(conn: Connection, job_id: UUID) -> Job | None:
    """Return a job by its id alone, since notifications and operators do not know the workspace."""
    return to_job_or_none(await conn.fetchrow(SELECT_JOB, job_id))


async def select_active_job(
    conn: Connection, workspace_id: UUID, *, queue: Queue, subject_kind: SubjectKind, subject_id: UUID
) -> Job | None:
    """Return the queued or running job of a subject, or None."""
    return to_job_or_none(await conn.fetchrow(SELECT_ACTIVE_JOB, workspace_id, queue, subject_kind, subject_id))


async def claim_job(
    conn: Connection, job_id: UUID, *, queue: Queue, owner: str, token: UUID, lease_s: float
) -> Job | None:
    """Claim a job of the queue that is due or whose lease has expired; return None if neither is the case."""
    return to_job_or_none(await conn.fetchrow(CLAIM_JOB, job_id, owner, token, lease_s, queue))


async def renew_lease(conn: Connection, job: Job, *, lease_s: float) -> bool:
    """Renew the lease for `lease_s` seconds; return False if it was lost."""
    return await conn.execute(RENEW_LEASE, job.workspace_id, job.id, job.lease_token, lease_s) == "UPDATE 1"


async def fence(conn: Connection, job: Job) -> bool:
    """Return whether the lease is still valid, and lock the job until the transaction ends."""
    return await conn.fetchrow(FENCE, job.workspace_id, job.id, job.lease_token) is not None


async def update_progress(conn: Connection, job: Job, *, stage: str, progress: float) -> bool:
    """Store the progress (0 to 1); return False if the lease was lost."""
    status = await conn.execute(UPDATE_PROGRESS, job.workspace_id, job.id, job.lease_token, stage, progress)
    return status == "UPDATE 1"


async def update_parts_done(conn: Connection, job: Job, *, progress: float) -> bool:
    """Store the progress (0 to 1) of a job that never repeats work, and reset its rescues; False without its lease."""
    return await conn.execute(UPDATE_PARTS_DONE, job.workspace_id, job.id, job.lease_token, progress) == "UPDATE 1"


async def finish_job(conn: Connection, job: Job) -> bool:
    """Mark a job as done; return False if the lease was lost."""
    return await conn.execute(FINISH_JOB, job.workspace_id, job.id, job.lease_token) == "UPDATE 1"


async def retry_job(
    conn: Connection, job: Job, *, delay_s: float, error: dict[str, object], charged: bool
) -> Job | None:
    """Queue a job again in `delay_s` seconds; return None if the lease was lost."""
    row = await conn.fetchrow(RETRY_JOB, job.workspace_id, job.id, job.lease_token, delay_s, error, charged)
    return to_job_or_none(row)


async def hand_back_job(conn: Connection, job: Job) -> Job | None:
    """Queue a job again at once without counting an attempt; return None if the lease was lost."""
    return to_job_or_none(await conn.fetchrow(HAND_BACK_JOB, job.workspace_id, job.id, job.lease_token))


async def bury_job(conn: Connection, job: Job, *, error: dict[str, object]) -> Job | None:
    """Turn a running job into a dead letter; return None if the lease was lost."""
    return to_job_or_none(await conn.fetchrow(BURY_JOB, job.workspace_id, job.id, job.lease_token, error))


async def bury_waiting_job(conn: Connection, job: Job, *, error: dict[str, object]) -> Job | None:
    """Turn a queued job into a dead letter; return None if it is no longer queued or was queued again."""
    return to_job_or_none(await conn.fetchrow(BURY_WAITING_JOB, job.workspace_id, job.id, job.generation, error))


async def cancel_job(conn: Connection, job: Job) -> bool:
    """Cancel a running job; return False if the lease was lost."""
    return await conn.execute(CANCEL_JOB, job.workspace_id, job.id, job.lease_token) == "UPDATE 1"


async def cancel_active_jobs(
    conn: Connection, workspace_id: UUID, *, queue: Queue, subject_kind: SubjectKind, subject_id: UUID
) -> bool:
    """Cancel the queued or running job of a subject; return False if there was none."""
    status = await conn.execute(CANCEL_ACTIVE_JOBS, workspace_id, queue, subject_kind, subject_id)
    return status != "UPDATE 0"


async def cancel_delayed_job(conn: Connection, job: Job) -> bool:
    """Cancel a queued job that is not due yet; return False if it is due, running or finished."""
    return await conn.execute(CANCEL_DELAYED_JOB, job.workspace_id, job.id) == "UPDATE 1"


async def rescue_job(conn: Connection, job: Job) -> Job | None:
    """Queue a job whose lease has expired; return None if it has a valid lease again."""
    return to_job_or_none(await conn.fetchrow(RESCUE_JOB, job.workspace_id, job.id))


async def limit_lock_wait(conn: Connection, *, seconds: float) -> None:
    """Let the transaction's statements fail when they have waited this long for a lock."""
    await conn.execute(LIMIT_LOCK_WAIT, str(round(seconds * 1000)))


async def try_lock(conn: Connection, name: str, *, idle_limit_s: float | None = 10.0) -> bool:
    """Take the named lock for the rest of the transaction; return False if another process has it.

    Postgres ends the transaction after `idle_limit_s` without a statement, so that a frozen process loses the lock. Use
    None if the work under the lock happens outside of Postgres.
    """
    taken: bool = await conn.fetchval(TRY_LOCK, name, str(round((idle_limit_s or 0) * 1000)))
    return taken


def to_job_or_none(row: Record | None) -> Job | None:
    """Convert a row with COLUMNS to a job, and None to None."""
    return to_job(row) if row else None


def to_job(row: Record | None) -> Job:
    """Convert a row with COLUMNS to a job."""
    values = dict(row.items()) if row else {}
    return Job(
        **{
            **values,
            "queue": Queue(values["queue"]),
            "kind": JobKind(values["kind"]),
            "status": JobStatus(values["status"]),
            "subject_kind": SubjectKind(values["subject_kind"]),
        }
    )

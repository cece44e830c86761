"""The life of a job, every step one transaction in Postgres together with what it shows on its subject.

                    ┌──────────── retry, hand back, rescue (generation+1) ───────────┐
                    ▼                                                                │
    enqueue ──▶  queued  ── claim (lease, attempts+1) ──▶  running  ── finish ──▶  done
                  │  ▲                                      │   │
                  │  ├──── replay (generation+1) ──── dead ◀┘   │
                  │  └──── give up after an outage ──▶ │        │
                  └── cancel ──▶  cancelled  ◀─────────┼────────┘
                                                       └── discard, supersede ──▶  discarded, superseded

A running job is held by a lease: a token and a time in Postgres. Whoever has the token may write (the fence);
once the time is over, anybody may take the job, and the token of before opens nothing any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from ragsvc.db import dead_jobs, jobs, queue_state
from ragsvc.domain.documents import FailureInfo
from ragsvc.domain.ids import new_id
from ragsvc.domain.jobs import Job, JobStatus, Queue, SubjectKind
from ragsvc.domain.payloads import IngestPayload
from ragsvc.jobs import retry_policy, subjects
from ragsvc.telemetry.metrics import JOB_RESCUES, JOB_START_LATENCY
from ragsvc.telemetry.traces import current_traceparent

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection, Pool
    from ragsvc.domain.payloads import Payload
    from ragsvc.domain.workspaces import Chunking
    from ragsvc.jobs.retry_policy import Failure
    from ragsvc.settings.settings import Settings

log = structlog.get_logger(__name__)


async def enqueue(
    conn: Connection,
    settings: Settings,
    *,
    workspace_id: UUID,
    queue: Queue,
    subject_kind: SubjectKind,
    subject_id: UUID,
    payload: Payload,
    job_id: UUID | None = None,
) -> Job:
    """Add a job in the caller's transaction; ring for it once that is committed.

    A dead letter of the same subject is superseded by it.
    """
    await dead_jobs.supersede_dead_jobs(
        conn, workspace_id, queue=queue, subject_kind=subject_kind, subject_id=subject_id
    )
    return await jobs.insert_job(
        conn,
        workspace_id,
        job_id or new_id(),
        queue=queue,
        kind=payload.kind,
        subject_kind=subject_kind,
        subject_id=subject_id,
        payload=payload.to_json(),
        max_attempts=settings.jobs.max_attempts,
        trace_id=current_traceparent() or structlog.contextvars.get_contextvars().get("request_id"),
    )


async def enqueue_ingestion(
    conn: Connection,
    settings: Settings,
    *,
    workspace_id: UUID,
    document_id: UUID,
    file_id: UUID,
    chunking: Chunking | None = None,
    job_id: UUID | None = None,
) -> Job:
    """Add the job that makes the document's next version of a file; a chunking of its own holds for retries too."""
    return await enqueue(
        conn,
        settings,
        workspace_id=workspace_id,
        queue=Queue.INGESTION,
        subject_kind=SubjectKind.DOCUMENT,
        subject_id=document_id,
        payload=IngestPayload(file_id, chunking),
        job_id=job_id,
    )


async def claim(pool: Pool, job_id: UUID, *, owner: str, lease_s: float) -> Job | None:
    """Take the job for this worker; None when it is not due, held, over, or its queue is paused."""
    async with pool.acquire() as conn, conn.transaction():
        known = await jobs.select_job(conn, job_id)
        if known is None:
            return None
        await subjects.lock_subject(conn, known)
        job = await jobs.claim_job(conn, job_id, owner=owner, token=new_id(), lease_s=lease_s)
        if job is not None:
            await subjects.show_running(conn, job)
    if job is not None:
        _count_claim(known, job)
    return job


async def hand_back(pool: Pool, job: Job) -> Job | None:
    """Queue the job again, uncharged: its worker is asked to stop. None when it is no longer held."""
    async with pool.acquire() as conn, conn.transaction():
        await subjects.lock_subject(conn, job)
        queued = await jobs.hand_back_job(conn, job)
        if queued is not None:
            await subjects.show_queued(conn, queued)
        return queued


async def fail(pool: Pool, job: Job, failure: Failure, *, settings: Settings) -> Job | None:
    """Queue the job for another try or bury it; returns its new row, None when it is no longer held."""
    async with pool.acquire() as conn, conn.transaction():
        await subjects.lock_subject(conn, job)
        failure = retry_policy.in_outage(failure, await queue_state.select_outage(conn, job.queue))
        retry = retry_policy.decide(failure, job, settings)
        error = failure.to_json(worker=job.lease_owner)
        if retry is None:
            dead = await jobs.bury_job(conn, job, error=error)
            await _show_dead(conn, dead, failure)
            return dead
        queued = await jobs.retry_job(conn, job, delay_s=retry.delay_s, error=error, charged=retry.charged)
        if queued is not None:
            shown = FailureInfo(failure.code, failure.message, retryable=True, next_attempt_at=queued.run_at)
            await subjects.show_queued(conn, queued, error=shown)
        return queued


async def give_up(pool: Pool, job: Job, failure: Failure) -> Job | None:
    """Bury a job that waits; returns its new row, None when it waits no more."""
    async with pool.acquire() as conn, conn.transaction():
        await subjects.lock_subject(conn, job)
        dead = await jobs.bury_waiting_job(conn, job, error=failure.to_json(worker=None))
        await _show_dead(conn, dead, failure)
        return dead


async def rescue(pool: Pool, job: Job) -> Job | None:
    """Queue a job whose worker fell silent; None when another was faster."""
    async with pool.acquire() as conn, conn.transaction():
        await subjects.lock_subject(conn, job)
        queued = await jobs.rescue_job(conn, job)
        if queued is not None:
            await subjects.show_queued(conn, queued)
            JOB_RESCUES.labels(job.queue).inc()
            log.warning("job_rescued", job_id=job.id, stage=job.stage, lost_owner=job.lease_owner)
        return queued


def _count_claim(before: Job, job: Job) -> None:
    """Count a take-over, or measure by Postgres's clock how long the job had been due."""
    if before.status is JobStatus.RUNNING:
        JOB_RESCUES.labels(job.queue).inc()
    elif job.claimed_at is not None:
        JOB_START_LATENCY.labels(job.queue).observe(max((job.claimed_at - job.run_at).total_seconds(), 0))


async def _show_dead(conn: Connection, dead: Job | None, failure: Failure) -> None:
    if dead is not None:
        replayable = failure.kind is not retry_policy.FailureClass.PERMANENT
        await subjects.show_dead(conn, dead, error=FailureInfo(failure.code, failure.message, replayable))

"""The life of a job; each step is one transaction in Postgres that also updates the status of the job's subject.

                    ┌──────────── retry, hand back, rescue (generation+1) ───────────┐
                    ▼                                                                │
    enqueue ──▶  queued  ── claim (lease, attempts+1) ──▶  running  ── finish ──▶  done
                  │  ▲                                      │   │
                  │  ├──── replay (generation+1) ──── dead ◀┘   │
                  │  └──── give up after an outage ──▶ │        │
                  └── cancel ──▶  cancelled  ◀─────────┼────────┘
                                                       └── discard, supersede ──▶  discarded, superseded

A running job has a lease in Postgres: a token and an expiry. Only the worker with the current token can write (the
fence). After the expiry any worker can claim the job, which replaces the token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from ragsvc.db import dead_jobs, jobs, queue_state
from ragsvc.domain.documents import FailureInfo
from ragsvc.domain.ids import new_id
from ragsvc.domain.jobs import IngestPayload, Job, JobKind, JobStatus, Queue, SubjectKind
from ragsvc.jobs import retry_policy, subjects
from ragsvc.telemetry.metrics import JOB_RESCUES, JOB_START_LATENCY
from ragsvc.telemetry.traces import current_traceparent

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection, Pool
    from ragsvc.domain.collections import Chunking
    from ragsvc.domain.jobs import Payload
    from ragsvc.jobs.retry_policy import Failure
    from ragsvc.settings.settings import Settings

# Longest wait of a rescue for a lock: a worker that froze or vanished can hold one until Postgres ends its session.
RESCUE_LOCK_WAIT_S = 0.5

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
    """Add a job in the caller's transaction; the caller notifies the workers after the commit.

    The job supersedes the dead letter of its subject on the same queue, if there is one.
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
    """Add the job that ingests the document's next version; a given `chunking` overrides the collection's."""
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


async def claim(
    pool: Pool, job_id: UUID, *, queue: Queue, owner: str, lease_s: float, delivers: bool = False
) -> Job | None:
    """Claim a job of the queue for this worker: a delivery if `delivers`, otherwise any other job.

    Return None if it is not due yet, is leased or finished, is none of these, or if its queue is paused.
    """
    async with pool.acquire() as conn, conn.transaction():
        before = await jobs.select_job(conn, job_id)
        if before is None or before.queue is not queue or (before.kind is JobKind.DELIVER) is not delivers:
            return None
        await subjects.lock_subject(conn, before)
        job = await jobs.claim_job(conn, job_id, queue=queue, owner=owner, token=new_id(), lease_s=lease_s)
        if job is not None:
            await subjects.show_running(conn, job)
    if job is not None:
        _measure_claim(before, job)
    return job


async def hand_back(pool: Pool, job: Job) -> Job | None:
    """Requeue the job of a worker that shuts down, without counting an attempt; None if the lease is lost."""
    async with pool.acquire() as conn, conn.transaction():
        await subjects.lock_subject(conn, job)
        queued = await jobs.hand_back_job(conn, job)
        if queued is not None:
            await subjects.show_queued(conn, queued)
        return queued


async def fail(pool: Pool, job: Job, failure: Failure, *, settings: Settings) -> Job | None:
    """Requeue a failed job or make it a dead letter; returns its new row, or None if the lease is lost."""
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
            shown = FailureInfo(
                failure.code, failure.message_for_tenants(job.id), retryable=True, next_attempt_at=queued.run_at
            )
            await subjects.show_queued(conn, queued, error=shown)
        return queued


async def cancel(pool: Pool, job: Job) -> bool:
    """End a running job whose subject is gone; False if the lease is lost."""
    async with pool.acquire() as conn:
        return await jobs.cancel_job(conn, job)


async def give_up(pool: Pool, job: Job, failure: Failure) -> Job | None:
    """Make a queued job a dead letter; returns its new row, or None if it is no longer queued."""
    async with pool.acquire() as conn, conn.transaction():
        await subjects.lock_subject(conn, job)
        dead = await jobs.bury_waiting_job(conn, job, error=failure.to_json(worker=None))
        await _show_dead(conn, dead, failure)
        return dead


async def rescue(pool: Pool, job: Job) -> Job | None:
    """Requeue a job whose lease has expired; None if another process was faster.

    Raises an error if a transaction has locked the job or its document for longer than RESCUE_LOCK_WAIT_S.
    """
    async with pool.acquire() as conn, conn.transaction():
        await jobs.limit_lock_wait(conn, seconds=RESCUE_LOCK_WAIT_S)
        await subjects.lock_subject(conn, job)
        queued = await jobs.rescue_job(conn, job)
        if queued is not None:
            await subjects.show_queued(conn, queued)
            JOB_RESCUES.labels(job.queue).inc()
            log.warning("job_rescued", job_id=job.id, stage=job.stage, lost_owner=job.lease_owner)
        return queued


def _measure_claim(before: Job, job: Job) -> None:
    """Count the rescue of an expired job, or record the start latency of a queued one by Postgres's clock."""
    if before.status is JobStatus.RUNNING:
        JOB_RESCUES.labels(job.queue).inc()
    elif job.claimed_at is not None:
        JOB_START_LATENCY.labels(job.queue).observe(max((job.claimed_at - job.run_at).total_seconds(), 0))


async def _show_dead(conn: Connection, dead: Job | None, failure: Failure) -> None:
    if dead is not None:
        replayable = failure.kind is not retry_policy.FailureClass.PERMANENT
        await subjects.show_dead(
            conn, dead, error=FailureInfo(failure.code, failure.message_for_tenants(dead.id), replayable)
        )

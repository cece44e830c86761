"""Every transition of a job, and the status that its document shows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ragsvc.db import jobs, queue_state
from ragsvc.db.connections.pool import UniqueViolation
from ragsvc.domain.documents import DocumentStatus, Stage
from ragsvc.domain.ids import new_id
from ragsvc.domain.jobs import IngestPayload, JobStatus, Queue, SubjectKind
from ragsvc.errors.work import DocumentRejected, LeaseLost, OutageFailure, TransientFailure
from ragsvc.jobs import lifecycle, retry_policy
from ragsvc.jobs.lease import Lease
from tests.support.documents.documents import reload, reload_job
from tests.support.jobs import expire
from tests.support.polling import until

if TYPE_CHECKING:
    from ragsvc.domain.documents import Document
    from ragsvc.domain.jobs import Job
    from ragsvc.resources import Resources


async def test_a_claim_counts_an_attempt_and_is_shown_on_the_document(
    resources: Resources, document: Document, claimed: Job
) -> None:
    assert (claimed.status, claimed.attempts, claimed.rescues) == (JobStatus.RUNNING, 1, 0)
    assert (await reload(resources, document)).status is DocumentStatus.PROCESSING


async def test_a_leased_job_cannot_be_claimed_again(resources: Resources, claimed: Job) -> None:
    assert await lifecycle.claim(resources.pool, claimed.id, queue=claimed.queue, owner="worker-2", lease_s=30) is None


async def test_a_job_is_not_claimed_by_the_workers_of_another_queue(resources: Resources, job: Job) -> None:
    assert await lifecycle.claim(resources.pool, job.id, queue=Queue.DELETION, owner="worker-1", lease_s=30) is None
    assert await lifecycle.claim(resources.pool, job.id, queue=Queue.INGESTION, owner="worker-1", lease_s=30)


async def test_only_one_of_ten_concurrent_claims_succeeds(resources: Resources, job: Job) -> None:
    claims = await asyncio.gather(
        *(lifecycle.claim(resources.pool, job.id, queue=job.queue, owner=f"worker-{n}", lease_s=30) for n in range(10))
    )
    assert sum(claim is not None for claim in claims) == 1


async def test_claiming_a_job_with_an_expired_lease_counts_a_rescue_and_no_attempt(
    resources: Resources, claimed: Job
) -> None:
    await expire(resources, claimed)
    taken = await lifecycle.claim(resources.pool, claimed.id, queue=claimed.queue, owner="worker-2", lease_s=30)
    assert taken is not None
    assert (taken.attempts, taken.rescues, taken.generation) == (1, 1, claimed.generation + 1)


async def test_a_worker_writes_nothing_after_it_lost_its_lease(resources: Resources, claimed: Job) -> None:
    await expire(resources, claimed)
    assert await lifecycle.claim(resources.pool, claimed.id, queue=claimed.queue, owner="worker-2", lease_s=30)
    late = Lease(resources.pool, claimed, resources.settings)
    with pytest.raises(LeaseLost):
        await late.report(Stage.EMBEDDING, 1.0)
    async with resources.pool.acquire() as conn, conn.transaction():
        with pytest.raises(LeaseLost):
            await late.fence(conn)
    failure = retry_policy.classify(DocumentRejected("corrupt", "late"))
    assert await lifecycle.fail(resources.pool, claimed, failure, settings=resources.settings) is None
    assert (await reload_job(resources, claimed)).status is JobStatus.RUNNING


async def test_a_job_of_a_paused_queue_cannot_be_claimed_until_it_is_resumed(resources: Resources, job: Job) -> None:
    async with resources.pool.acquire() as conn:
        await queue_state.update_paused(conn, Queue.INGESTION, paused=True, reason="manual")
    assert await lifecycle.claim(resources.pool, job.id, queue=job.queue, owner="worker-1", lease_s=30) is None
    async with resources.pool.acquire() as conn:
        await queue_state.update_paused(conn, Queue.INGESTION, paused=False)
    assert await lifecycle.claim(resources.pool, job.id, queue=job.queue, owner="worker-1", lease_s=30) is not None


async def test_a_transient_failure_counts_an_attempt_and_shows_the_next_one(
    resources: Resources, document: Document, claimed: Job
) -> None:
    failure = retry_policy.classify(TransientFailure("embedding_unavailable", "503", http_status=503))
    queued = await lifecycle.fail(resources.pool, claimed, failure, settings=resources.settings)
    assert queued is not None
    assert (queued.status, queued.attempts, queued.generation) == (JobStatus.QUEUED, 1, claimed.generation + 1)
    shown = await reload(resources, document)
    assert shown.status is DocumentStatus.QUEUED
    assert shown.error is not None
    assert (shown.error.code, shown.error.retryable) == ("embedding_unavailable", True)
    assert shown.error.next_attempt_at == queued.run_at


async def test_a_retry_waits_for_the_retry_after(resources: Resources, claimed: Job) -> None:
    failure = retry_policy.classify(TransientFailure("embedding_unavailable", "429", retry_after_s=60, http_status=429))
    queued = await lifecycle.fail(resources.pool, claimed, failure, settings=resources.settings)
    assert queued is not None
    assert queued.last_failed_at is not None
    assert (queued.run_at - queued.last_failed_at).total_seconds() >= 59


async def test_an_outage_counts_no_attempt(resources: Resources, claimed: Job) -> None:
    failure = retry_policy.classify(OutageFailure("embedding_unreachable", "connection refused"))
    queued = await lifecycle.fail(resources.pool, claimed, failure, settings=resources.settings)
    assert queued is not None
    assert (queued.status, queued.attempts) == (JobStatus.QUEUED, 0)


async def test_a_job_becomes_a_dead_letter_when_an_outage_lasts_too_long(resources: Resources, claimed: Job) -> None:
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE jobs SET first_failed_at = now() - interval '7 hours' WHERE id = $1", claimed.id)
    old = await reload_job(resources, claimed)
    failure = retry_policy.classify(OutageFailure("embedding_unreachable", "connection refused"))
    dead = await lifecycle.fail(resources.pool, old, failure, settings=resources.settings)
    assert dead is not None
    assert dead.status is JobStatus.DEAD


async def test_a_permanent_failure_fails_the_document_immediately(
    resources: Resources, document: Document, claimed: Job
) -> None:
    failure = retry_policy.classify(DocumentRejected("encrypted", "the PDF asks for a password"))
    dead = await lifecycle.fail(resources.pool, claimed, failure, settings=resources.settings)
    assert dead is not None
    assert dead.status is JobStatus.DEAD
    shown = await reload(resources, document)
    assert shown.status is DocumentStatus.FAILED
    assert shown.error is not None
    assert (shown.error.code, shown.error.retryable) == ("encrypted", False)


async def test_a_job_handed_back_is_due_immediately_and_counts_no_attempt(
    resources: Resources, document: Document, claimed: Job
) -> None:
    queued = await lifecycle.hand_back(resources.pool, claimed)
    assert queued is not None
    assert (queued.status, queued.attempts, queued.error) == (JobStatus.QUEUED, 0, None)
    assert (await reload(resources, document)).status is DocumentStatus.QUEUED
    assert (
        await lifecycle.claim(resources.pool, claimed.id, queue=claimed.queue, owner="worker-2", lease_s=30) is not None
    )


async def test_a_subject_has_one_active_job(resources: Resources, job: Job) -> None:
    with pytest.raises(UniqueViolation):
        async with resources.pool.acquire() as conn, conn.transaction():
            await lifecycle.enqueue(
                conn,
                resources.settings,
                workspace_id=job.workspace_id,
                queue=Queue.INGESTION,
                subject_kind=SubjectKind.DOCUMENT,
                subject_id=job.subject_id,
                payload=IngestPayload(new_id()),
            )


async def test_progress_beyond_earlier_attempts_resets_the_rescues(resources: Resources, claimed: Job) -> None:
    lease = Lease(resources.pool, claimed, resources.settings)
    await lease.report(Stage.EMBEDDING, 0.1)
    await expire(resources, claimed)
    second = await lifecycle.claim(resources.pool, claimed.id, queue=claimed.queue, owner="worker-2", lease_s=30)
    assert second is not None
    again = Lease(resources.pool, second, resources.settings)
    await again.report(Stage.PARSING)
    assert (await reload_job(resources, claimed)).rescues == 1
    await again.report(Stage.EMBEDDING, 0.5)
    assert (await reload_job(resources, claimed)).rescues == 0


async def test_a_lost_lease_cancels_the_work(resources: Resources, claimed: Job) -> None:
    short_lease = resources.settings.changed({"job_lease_s": 0.3})

    async def work() -> None:
        async with Lease(resources.pool, claimed, short_lease).renewed(), asyncio.timeout(10):
            await asyncio.Event().wait()

    running = asyncio.create_task(work())
    async with resources.pool.acquire() as conn:
        await jobs.cancel_active_jobs(
            conn,
            claimed.workspace_id,
            queue=Queue.INGESTION,
            subject_kind=SubjectKind.DOCUMENT,
            subject_id=claimed.subject_id,
        )
    with pytest.raises(LeaseLost):
        await running


async def test_a_lease_is_renewed_while_the_work_runs(resources: Resources, claimed: Job) -> None:
    # A renewal times out after a third of the lease.
    short_lease = resources.settings.changed({"job_lease_s": 3.0})

    async def is_renewed() -> bool:
        return (await reload_job(resources, claimed)).lease_until != claimed.lease_until

    async with Lease(resources.pool, claimed, short_lease).renewed():
        await until(is_renewed)
    assert (await reload_job(resources, claimed)).lease_token == claimed.lease_token

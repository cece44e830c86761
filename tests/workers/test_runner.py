"""The runner of jobs: every outcome of the work is stored in the job's row."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ragsvc.db import jobs
from ragsvc.domain.documents import DocumentStatus, Stage
from ragsvc.domain.ids import format_id
from ragsvc.domain.jobs import JobStatus, Queue
from ragsvc.errors.work import DocumentRejected, OutageFailure
from ragsvc.queue.connection import queue_name
from ragsvc.workers.runner import run_job
from tests.support.documents.documents import accept, job_of, reload, reload_job
from tests.support.servers.redis import command

if TYPE_CHECKING:
    from ragsvc.domain.documents import Document
    from ragsvc.domain.jobs import Job
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.jobs.lease import Lease
    from ragsvc.resources import Resources


@pytest.fixture
async def document(resources: Resources, workspace: Workspace) -> Document:
    return await accept(resources, workspace)


@pytest.fixture
async def job(resources: Resources, document: Document) -> Job:
    return await job_of(resources, document)


def context(resources: Resources, **settings: object) -> dict[str, Any]:
    changed = replace(resources, settings=resources.settings.changed(settings))
    return {"resources": changed, "queue": Queue.INGESTION, "owner": "worker-1", "stopping": asyncio.Event()}


async def finish(resources: Resources, lease: Lease) -> None:
    async with resources.pool.acquire() as conn:
        await jobs.finish_job(conn, lease.job)


async def test_a_job_is_done_when_its_work_has_finished(resources: Resources, job: Job) -> None:
    await run_job(context(resources), str(job.id), finish)
    assert (await reload_job(resources, job)).status is JobStatus.DONE


async def test_a_notification_of_a_finished_job_does_nothing(resources: Resources, job: Job) -> None:
    await run_job(context(resources), str(job.id), finish)
    ran = False

    async def work(_resources: Resources, _lease: Lease) -> None:
        nonlocal ran
        ran = True

    await run_job(context(resources), str(job.id), work)
    assert not ran


async def test_a_permanent_failure_is_listed_as_a_dead_letter(
    resources: Resources, document: Document, job: Job
) -> None:
    async def work(_resources: Resources, _lease: Lease) -> None:
        raise DocumentRejected("corrupt", "no xref table")

    await run_job(context(resources), str(job.id), work)
    assert (await reload(resources, document)).status is DocumentStatus.FAILED
    key = f"{resources.settings.stores.queue_prefix}:ingestion:dlq"
    assert await command(resources.redis, "LLEN", key) == 1


async def test_an_unexpected_failure_is_attempted_three_times(resources: Resources, job: Job) -> None:
    async def work(_resources: Resources, _lease: Lease) -> None:
        raise RuntimeError("a bug")

    ctx = context(resources, backoff_base_s=0.001, backoff_cap_s=0.001)
    for expected in (JobStatus.QUEUED, JobStatus.QUEUED, JobStatus.DEAD):
        async with resources.pool.acquire() as conn:
            await conn.execute("UPDATE jobs SET run_at = now() WHERE id = $1", job.id)
        await run_job(ctx, str(job.id), work)
        assert (await reload_job(resources, job)).status is expected


async def test_the_text_of_an_unexpected_failure_is_not_shown_to_tenants(
    resources: Resources, document: Document, job: Job
) -> None:
    async def work(_resources: Resources, _lease: Lease) -> None:
        raise KeyError("deletion_id")

    ctx = context(resources, backoff_base_s=0.001, backoff_cap_s=0.001)
    for _ in range(3):
        async with resources.pool.acquire() as conn:
            await conn.execute("UPDATE jobs SET run_at = now() WHERE id = $1", job.id)
        await run_job(ctx, str(job.id), work)
        error = (await reload(resources, document)).error
        assert error is not None
        assert error.code == "internal"
        assert (
            error.message == f"An unexpected error occurred. An operator finds more under {format_id('job', job.id)}."
        )
    # Operators see it.
    stored = (await reload_job(resources, job)).error
    assert stored is not None
    assert stored["message"] == "'deletion_id'"


async def test_a_timeout_is_transient_and_counts_an_attempt(resources: Resources, job: Job) -> None:
    async def work(_resources: Resources, _lease: Lease) -> None:
        await asyncio.Event().wait()

    await run_job(context(resources, job_timeout_s=0.05), str(job.id), work)
    after = await reload_job(resources, job)
    assert (after.status, after.attempts) == (JobStatus.QUEUED, 1)
    assert after.error is not None
    assert after.error["code"] == "timeout"
    assert after.error["message"] == "the job made no progress for 0.05 s"


async def test_work_that_makes_progress_can_exceed_the_time_limit(resources: Resources, job: Job) -> None:
    limit_s = 2.0

    async def work(resources: Resources, lease: Lease) -> None:
        ends_at = loop.time() + 1.25 * limit_s
        for step in itertools.count(1):
            await lease.report(Stage.EMBEDDING, 1 - 1 / step)
            if loop.time() > ends_at:
                break
            await asyncio.sleep(0.05)
        await finish(resources, lease)

    loop = asyncio.get_running_loop()
    await run_job(context(resources, job_timeout_s=limit_s), str(job.id), work)
    assert (await reload_job(resources, job)).status is JobStatus.DONE


async def test_a_stopping_worker_hands_its_job_back_and_counts_no_attempt(resources: Resources, job: Job) -> None:
    ctx, started = context(resources), asyncio.Event()

    async def work(_resources: Resources, _lease: Lease) -> None:
        started.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(run_job(ctx, str(job.id), work))
    await started.wait()
    ctx["stopping"].set()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    after = await reload_job(resources, job)
    assert (after.status, after.attempts, after.error) == (JobStatus.QUEUED, 0, None)
    queue_key = queue_name(resources.settings, Queue.INGESTION)
    notification_id = f"{queue_key}:{job.id.hex}:{after.generation}"
    assert notification_id.encode() in await resources.redis.zrange(queue_key, 0, -1)


async def test_a_cancellation_inside_the_work_is_a_failure(resources: Resources, job: Job) -> None:
    async def work(_resources: Resources, _lease: Lease) -> None:
        raise asyncio.CancelledError

    await run_job(context(resources), str(job.id), work)
    after = await reload_job(resources, job)
    assert (after.status, after.attempts) == (JobStatus.QUEUED, 1)


async def test_an_outage_leaves_the_document_queued_with_the_error(
    resources: Resources, document: Document, job: Job
) -> None:
    async def work(_resources: Resources, _lease: Lease) -> None:
        raise OutageFailure("embedding_unreachable", "connection refused")

    await run_job(context(resources), str(job.id), work)
    shown = await reload(resources, document)
    assert shown.status is DocumentStatus.QUEUED
    assert shown.error is not None
    assert (shown.error.code, shown.error.retryable) == ("embedding_unreachable", True)
    assert shown.error.next_attempt_at is not None


async def test_a_job_whose_workers_repeatedly_die_fails_as_a_crash_loop(
    resources: Resources, document: Document, job: Job
) -> None:
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE jobs SET rescues = 4 WHERE id = $1", job.id)
    await run_job(context(resources), str(job.id), finish)
    shown = await reload(resources, document)
    assert shown.error is not None
    assert (shown.status, shown.error.code) == (DocumentStatus.FAILED, "crash_loop")

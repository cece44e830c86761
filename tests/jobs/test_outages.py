"""An outage pauses its queue, costs no attempts and ends when the provider is back; no job waits forever."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ragsvc.db import queue_state
from ragsvc.domain.documents import DocumentStatus
from ragsvc.domain.jobs import JobStatus, Queue
from ragsvc.errors.work import OutageFailure, TransientFailure
from ragsvc.jobs import dead_letters, lifecycle, outages, retry_policy
from ragsvc.resources import open_resources
from tests.support.documents.documents import accept, job_of, reload, reload_job
from tests.support.servers.model_server import Cut, Fail

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.domain.documents import Document
    from ragsvc.domain.jobs import Job, Outage
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.jobs.retry_policy import Failure
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings
    from tests.support.servers.model_server import ScriptedModels

UNREACHABLE = OutageFailure("embedding_unreachable", "The embedding model's server cannot be reached")
OVERLOADED = TransientFailure("embedding_unavailable", "The embedding model answered 503", http_status=503)


@pytest.fixture
async def resources(settings: Settings, scripted_models: ScriptedModels) -> AsyncIterator[Resources]:
    """The resources of a process, with a scripted model server."""
    changed = scripted_models.applied_to(settings).changed({"backoff_base_s": 0.01, "backoff_cap_s": 0.01})
    async with open_resources(changed, pool_size=8) as opened:
        yield opened


async def claim(resources: Resources, job: Job) -> Job | None:
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE jobs SET run_at = now() WHERE id = $1", job.id)
    return await lifecycle.claim(resources.pool, job.id, queue=job.queue, owner="worker-1", lease_s=30)


async def settle(resources: Resources, job: Job, error: Exception) -> Job:
    """Claim the job and record a failure as a worker does."""
    failure = retry_policy.classify(error)
    claimed = await claim(resources, job)
    assert claimed is not None
    settled = await lifecycle.fail(resources.pool, claimed, failure, settings=resources.settings)
    assert settled is not None
    await outages.check_failure(resources, job.queue, failure)
    return settled


async def outage_of(resources: Resources, queue: Queue = Queue.INGESTION) -> Outage | None:
    async with resources.pool.acquire() as conn:
        return await queue_state.select_outage(conn, queue)


async def sweep(resources: Resources) -> None:
    """Make the next probe due and sweep."""
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE queue_state SET probe_at = now() WHERE probe_at IS NOT NULL")
    await outages.sweep_outages(resources)


async def test_an_unavailable_provider_pauses_its_queue_until_it_replies(
    resources: Resources, scripted_models: ScriptedModels, job: Job
) -> None:
    scripted_models.embeddings.usual = Cut()
    failed = await settle(resources, job, UNREACHABLE)
    assert (failed.status, failed.attempts) == (JobStatus.QUEUED, 0)
    outage = await outage_of(resources)
    assert outage is not None
    assert (outage.code, outage.reason) == ("embedding_unreachable", str(UNREACHABLE))
    assert await claim(resources, job) is None
    await sweep(resources)
    assert await outage_of(resources) == outage
    scripted_models.embeddings.usual = None
    await sweep(resources)
    assert await outage_of(resources) is None
    assert await claim(resources, job) is not None


async def test_a_failure_pauses_nothing_when_the_provider_replies(resources: Resources, job: Job) -> None:
    failed = await settle(resources, job, UNREACHABLE)
    assert failed.attempts == 0
    assert await outage_of(resources) is None


async def test_a_provider_that_refuses_one_text_counts_as_available(
    resources: Resources, scripted_models: ScriptedModels, job: Job
) -> None:
    scripted_models.embeddings.usual = Fail(422)
    await settle(resources, job, UNREACHABLE)
    assert await outage_of(resources) is None


async def test_many_jobs_with_the_same_failure_are_an_outage_that_costs_no_further_attempts(
    resources: Resources, scripted_models: ScriptedModels, workspace: Workspace
) -> None:
    scripted_models.embeddings.usual = Fail(503)
    documents = [
        await accept(resources, workspace, f"# Kettle {n}\n".encode(), filename=f"{n}.md")
        for n in range(outages.SAME_FAILURE_JOBS + 1)
    ]
    *first, last = [await job_of(resources, document) for document in documents]
    late = await claim(resources, last)
    assert late is not None
    for count, job in enumerate(first, 1):
        # The queue must not be paused before the last of these jobs has failed.
        assert (await outage_of(resources) is None) == (count <= outages.SAME_FAILURE_JOBS)
        assert (await settle(resources, job, OVERLOADED)).attempts == 1
    outage = await outage_of(resources)
    assert outage is not None
    assert outage.code == "embedding_unavailable"
    uncharged = await lifecycle.fail(
        resources.pool, late, retry_policy.classify(OVERLOADED), settings=resources.settings
    )
    assert uncharged is not None
    assert (uncharged.status, uncharged.attempts) == (JobStatus.QUEUED, 0)


async def test_a_queue_with_finished_jobs_has_no_outage(
    resources: Resources, scripted_models: ScriptedModels, workspace: Workspace, job: Job
) -> None:
    scripted_models.embeddings.usual = Fail(503)
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE jobs SET status = 'done', finished_at = now() WHERE id = $1", job.id)
    for n in range(outages.SAME_FAILURE_JOBS + 1):
        document = await accept(resources, workspace, f"# Kettle {n}\n".encode(), filename=f"{n}.md")
        await settle(resources, await job_of(resources, document), OVERLOADED)
    assert await outage_of(resources) is None


async def test_only_one_of_many_processes_sends_a_probe(
    resources: Resources, scripted_models: ScriptedModels, job: Job
) -> None:
    scripted_models.embeddings.usual = Cut()
    await settle(resources, job, UNREACHABLE)
    scripted_models.embeddings.requests.clear()
    slower = resources.settings.changed({"backoff_base_s": 60.0, "backoff_cap_s": 60.0})
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE queue_state SET probe_at = now() WHERE probe_at IS NOT NULL")
    async with open_resources(slower, pool_size=8) as others:
        await asyncio.gather(*(outages.sweep_outages(others) for _ in range(5)))
    assert len(scripted_models.embeddings.requests) == 1


async def test_the_end_of_an_outage_does_not_end_a_manual_pause(
    resources: Resources, scripted_models: ScriptedModels, job: Job
) -> None:
    scripted_models.embeddings.usual = Cut()
    await settle(resources, job, UNREACHABLE)
    async with resources.pool.acquire() as conn:
        await queue_state.update_paused(conn, Queue.INGESTION, paused=True, reason="maintenance")
    scripted_models.embeddings.usual = None
    await sweep(resources)
    assert await claim(resources, job) is None
    async with resources.pool.acquire() as conn:
        await queue_state.update_paused(conn, Queue.INGESTION, paused=False)
    assert await claim(resources, job) is not None


async def test_an_outage_does_not_replace_a_manual_pause(
    resources: Resources, scripted_models: ScriptedModels, job: Job
) -> None:
    claimed = await claim(resources, job)
    assert claimed is not None
    async with resources.pool.acquire() as conn:
        await queue_state.update_paused(conn, Queue.INGESTION, paused=True, reason="maintenance")
    scripted_models.embeddings.usual = Cut()
    await outages.check_failure(resources, Queue.INGESTION, retry_policy.classify(UNREACHABLE))
    assert await outage_of(resources) is None
    async with resources.pool.acquire() as conn:
        assert await conn.fetchval("SELECT reason FROM queue_state WHERE queue = 'ingestion'") == "maintenance"


async def test_a_job_that_waited_too_long_becomes_a_replayable_dead_letter(
    resources: Resources, scripted_models: ScriptedModels, workspace: Workspace, document: Document, job: Job
) -> None:
    scripted_models.embeddings.usual = Cut()
    await settle(resources, job, UNREACHABLE)
    untried = await job_of(resources, await accept(resources, workspace, b"# Untried\n", filename="untried.md"))
    fresh = await job_of(resources, await accept(resources, workspace, b"# Fresh\n", filename="fresh.md"))
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE queue_state SET since = now() - interval '7 hours' WHERE probe_at IS NOT NULL")
        await conn.execute("UPDATE jobs SET first_failed_at = now() - interval '7 hours' WHERE id = $1", job.id)
        await conn.execute("UPDATE jobs SET run_at = now() - interval '7 hours' WHERE id = $1", untried.id)
    await sweep(resources)
    buried = [await reload_job(resources, waiting) for waiting in (job, untried, fresh)]
    assert [settled.status for settled in buried] == [JobStatus.DEAD, JobStatus.DEAD, JobStatus.QUEUED]
    failed = await reload(resources, document)
    assert failed.error is not None
    assert (failed.status, failed.error.code, failed.error.retryable) == (
        DocumentStatus.FAILED,
        "embedding_unreachable",
        True,
    )
    assert await dead_letters.count_dead_letters(resources, Queue.INGESTION) == {"embedding_unreachable": 2}


@pytest.mark.parametrize(
    ("error", "provider"),
    [
        (UNREACHABLE, retry_policy.Provider.EMBEDDING),
        (TransientFailure("storage_unavailable", "503"), retry_policy.Provider.STORAGE),
        (TransientFailure("timeout", "too long"), None),
        (ValueError("a bug"), None),
    ],
)
def test_only_failures_of_a_provider_name_a_provider(error: Exception, provider: retry_policy.Provider | None) -> None:
    failure: Failure = retry_policy.classify(error)
    assert retry_policy.provider_of(failure) is provider


async def test_the_availability_of_the_store_is_probed(resources: Resources) -> None:
    assert await outages.is_available(resources, retry_policy.Provider.STORAGE)
    nowhere = resources.settings.changed({"s3_endpoint_url": "http://127.0.0.1:9"})
    async with open_resources(nowhere, pool_size=2) as others:
        assert not await outages.is_available(others, retry_policy.Provider.STORAGE)

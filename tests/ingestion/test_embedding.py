"""Embedding: tokens are charged to the shared rate limit, and jobs wait for it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ragsvc.domain.jobs import JobStatus, Queue
from ragsvc.ingestion.embedding import embed_chunks
from ragsvc.resources import open_resources
from ragsvc.workers.runner import run_job
from tests.support.documents.builds import make_chunks
from tests.support.documents.documents import accept, job_of, reload_job
from tests.support.polling import until
from tests.support.servers.redis import command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.domain.workspaces import Workspace
    from ragsvc.jobs.lease import Lease
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings
    from tests.support.servers.model_server import ScriptedModels

# One token is refilled per second, and the burst is a tenth of this setting.
TOKENS_PER_MINUTE = 60


@pytest.fixture
async def limited(settings: Settings, scripted_models: ScriptedModels) -> AsyncIterator[Resources]:
    changed = scripted_models.applied_to(settings).changed(
        {"embedding_tokens_per_minute": TOKENS_PER_MINUTE, "embedding_batch_size": 2}
    )
    async with open_resources(changed, pool_size=8) as opened:
        yield opened


async def ignore(_count: int) -> None: ...


async def rate_limit_clears_at(resources: Resources) -> float:
    key = f"{resources.settings.stores.queue_prefix}:limit:embedding"
    return int(await command(resources.redis, "HGET", key, "tokens_at")) / 1e6


async def redis_time_s(resources: Resources) -> int:
    seconds, _ = await command(resources.redis, "TIME")
    return int(seconds)


async def test_embedding_is_charged_by_tokens_and_cached_vectors_are_free(
    limited: Resources, workspace: Workspace, scripted_models: ScriptedModels
) -> None:
    chunks = [replace(chunk, token_count=count) for chunk, count in zip(make_chunks(), (20, 1, 3), strict=True)]
    began = await redis_time_s(limited)
    await embed_chunks(limited, workspace.id, chunks[:1], report=ignore)
    ended = await redis_time_s(limited)
    before = await rate_limit_clears_at(limited)
    asked = len(scripted_models.embeddings.requests)
    await embed_chunks(limited, workspace.id, chunks[:1], report=ignore)
    assert (await rate_limit_clears_at(limited), len(scripted_models.embeddings.requests)) == (before, asked)
    # The batch used twenty tokens, of which the burst covers six, so the next batch would wait about 14 s.
    assert began + 10 < before <= ended + 15


async def test_a_job_that_waits_for_rate_limit_tokens_renews_its_lease_until_it_times_out(
    limited: Resources, workspace: Workspace, scripted_models: ScriptedModels
) -> None:
    job = await job_of(limited, await accept(limited, workspace))
    settings = limited.settings.changed({"job_lease_s": 0.6, "job_timeout_s": 3.0})
    resources = replace(limited, settings=settings)
    await resources.llm.embed(["a debt"], token_count=1000)

    async def work(_resources: Resources, lease: Lease) -> None:
        await embed_chunks(resources, lease.job.workspace_id, make_chunks(), report=ignore)

    ctx = {"resources": resources, "queue": Queue.INGESTION, "owner": "worker-1", "stopping": asyncio.Event()}
    running = asyncio.create_task(run_job(ctx, str(job.id), work))

    async def renewed() -> object:
        row = await reload_job(resources, job)
        return row.lease_until if row.lease_until is not None else None

    first = await until(renewed)

    async def was_renewed() -> bool:
        return (await renewed()) not in {None, first}

    await until(was_renewed)
    await running
    after = await reload_job(resources, job)
    assert (after.status, after.rescues, after.attempts) == (JobStatus.QUEUED, 0, 1)
    assert after.error is not None
    assert after.error["code"] == "timeout"
    assert [request["input"] for request in scripted_models.embeddings.requests] == [["a debt"]]

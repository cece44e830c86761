"""A ring is heard whatever the clocks of the fleet say."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from ragsvc.jobs.sweeper import sweep_jobs
from ragsvc.queue.connection import queue_name
from tests.support.documents import accept, job_of

if TYPE_CHECKING:
    from ragsvc.domain.jobs import Job
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources

HOUR_MS = 3_600_000


@pytest.fixture
async def job(resources: Resources, workspace: Workspace) -> Job:
    """The queued and rung job of a document."""
    return await job_of(resources, await accept(resources, workspace))


async def scores(resources: Resources, job: Job) -> dict[str, float]:
    """Return arq's sorted set: the rings, and from when on a worker takes them by its own clock."""
    key = queue_name(resources.settings, job.queue)
    pending: list[tuple[bytes, float]] = await resources.redis.zrange(key, 0, -1, withscores=True)
    return {notify.decode(): score for notify, score in pending}


async def test_a_worker_whose_clock_is_behind_takes_a_ring_at_once(resources: Resources, job: Job) -> None:
    (score,) = (await scores(resources, job)).values()
    assert score < time.time() * 1000 - HOUR_MS


async def test_rings_keep_their_order(resources: Resources, workspace: Workspace, job: Job) -> None:
    later = await job_of(resources, await accept(resources, workspace, b"# Later\n", filename="later.md"))
    assert [notify.split(":")[-2] for notify in await scores(resources, job)] == [job.id.hex, later.id.hex]


async def test_a_retry_is_not_due_before_its_time(resources: Resources, job: Job) -> None:
    retried = replace(job, generation=job.generation + 1, run_at=job.run_at + timedelta(minutes=5))
    assert await resources.notifier.notify(retried)
    notify = max(await scores(resources, job))
    assert (await scores(resources, job))[notify] == pytest.approx(retried.run_at.timestamp() * 1000, abs=1)


async def test_a_ring_that_was_taken_up_by_a_worker_that_does_not_know_is_free_again(
    resources: Resources, job: Job
) -> None:
    (notify,) = await scores(resources, job)
    # Redis took this from a worker, and the connection broke before the worker heard of it.
    await resources.redis.set(f"arq:in-progress:{notify}", b"1")
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE jobs SET run_at = now() - interval '1 minute' WHERE id = $1", job.id)
    await sweep_jobs(resources)
    assert not await resources.redis.exists(f"arq:in-progress:{notify}")
    assert list(await scores(resources, job)) == [notify]


async def test_a_retry_that_a_slow_clock_holds_back_is_made_due(resources: Resources, job: Job) -> None:
    async with resources.pool.acquire() as conn:
        await conn.execute(
            "UPDATE jobs SET generation = generation + 1, run_at = now() - interval '1 minute' WHERE id = $1", job.id
        )
    # Rung by a node for which the retry is still ten minutes ahead.
    held_back = replace(job, generation=job.generation + 1, run_at=job.run_at + timedelta(minutes=10))
    assert await resources.notifier.notify(held_back)
    assert await sweep_jobs(resources) == 0
    assert max((await scores(resources, job)).values()) < time.time() * 1000

"""Notifications reach the workers in order and on time, whatever the clock skew of the fleet."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from ragsvc.jobs.sweeper import sweep_jobs
from ragsvc.queue.connection import queue_name
from tests.support.documents.documents import accept, job_of

if TYPE_CHECKING:
    from ragsvc.domain.jobs import Job
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources

HOUR_MS = 3_600_000


@pytest.fixture
async def job(resources: Resources, workspace: Workspace) -> Job:
    """The queued job of a document, whose notification was sent."""
    return await job_of(resources, await accept(resources, workspace))


async def scores(resources: Resources, job: Job) -> dict[str, float]:
    """Return arq's sorted set: the ids of notifications, and the earliest time in ms at which a worker takes each."""
    key = queue_name(resources.settings, job.queue)
    pending: list[tuple[bytes, float]] = await resources.redis.zrange(key, 0, -1, withscores=True)
    return {notification_id.decode(): score for notification_id, score in pending}


async def test_a_notification_is_due_immediately_for_a_worker_whose_clock_is_behind(
    resources: Resources, job: Job
) -> None:
    (score,) = (await scores(resources, job)).values()
    assert score < time.time() * 1000 - HOUR_MS


async def test_notifications_are_taken_in_the_order_of_their_sending(
    resources: Resources, workspace: Workspace, job: Job
) -> None:
    later = await job_of(resources, await accept(resources, workspace, b"# Later\n", filename="later.md"))
    assert [notification_id.split(":")[-2] for notification_id in await scores(resources, job)] == [
        job.id.hex,
        later.id.hex,
    ]


async def test_a_retry_is_not_due_before_its_time(resources: Resources, job: Job) -> None:
    retried = replace(job, generation=job.generation + 1, run_at=job.run_at + timedelta(minutes=5))
    assert await resources.notifier.notify(retried)
    notification_id = max(await scores(resources, job))
    assert (await scores(resources, job))[notification_id] == pytest.approx(retried.run_at.timestamp() * 1000, abs=1)


async def test_a_notification_in_progress_that_no_worker_received_is_released(resources: Resources, job: Job) -> None:
    (notification_id,) = await scores(resources, job)
    # Redis executed a worker's command, but the connection broke before the worker received the reply.
    await resources.redis.set(f"arq:in-progress:{notification_id}", b"1")
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE jobs SET run_at = now() - interval '1 minute' WHERE id = $1", job.id)
    await sweep_jobs(resources)
    assert not await resources.redis.exists(f"arq:in-progress:{notification_id}")
    assert list(await scores(resources, job)) == [notification_id]


async def test_a_retry_that_a_skewed_clock_delays_is_made_due(resources: Resources, job: Job) -> None:
    async with resources.pool.acquire() as conn:
        await conn.execute(
            "UPDATE jobs SET generation = generation + 1, run_at = now() - interval '1 minute' WHERE id = $1", job.id
        )
    # A notification sent by a node whose clock says that the retry is still ten minutes away.
    delayed = replace(job, generation=job.generation + 1, run_at=job.run_at + timedelta(minutes=10))
    assert await resources.notifier.notify(delayed)
    assert await sweep_jobs(resources) == 0
    assert max((await scores(resources, job)).values()) < time.time() * 1000

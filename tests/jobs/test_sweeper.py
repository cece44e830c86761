"""What was lost on the way is found again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ragsvc.db import jobs, queue_state
from ragsvc.domain.documents import DocumentStatus
from ragsvc.domain.jobs import JobStatus, Queue
from ragsvc.jobs.sweeper import sweep_jobs
from ragsvc.queue.connection import queue_name
from tests.jobs.conftest import expire
from tests.support.documents import reload, reload_job
from tests.support.polling import until

if TYPE_CHECKING:
    from ragsvc.domain.documents import Document
    from ragsvc.domain.jobs import Job
    from ragsvc.resources import Resources


async def make_overdue(resources: Resources, job: Job) -> None:
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE jobs SET run_at = now() - interval '1 minute' WHERE id = $1", job.id)


async def test_a_flushed_redis_loses_no_job(resources: Resources, job: Job) -> None:
    notify = queue_name(resources.settings, Queue.INGESTION)
    await resources.redis.delete(notify, *await resources.redis.keys(f"arq:*{job.id.hex}*"))
    await make_overdue(resources, job)
    assert await sweep_jobs(resources) == 1
    assert await resources.redis.zcard(notify) == 1


async def test_a_backlog_that_redis_knows_is_not_rung_again(resources: Resources, job: Job) -> None:
    await make_overdue(resources, job)
    assert await sweep_jobs(resources) == 0


async def test_a_silent_workers_job_is_queued_again_uncharged(
    resources: Resources, document: Document, claimed: Job
) -> None:
    await expire(resources, claimed)
    await sweep_jobs(resources)
    rescued = await reload_job(resources, claimed)
    assert (rescued.status, rescued.attempts, rescued.rescues) == (JobStatus.QUEUED, 0, 1)
    assert (await reload(resources, document)).status is DocumentStatus.QUEUED
    notify = queue_name(resources.settings, Queue.INGESTION)
    members = await resources.redis.zrange(notify, 0, -1)
    assert [member.decode() for member in members] == [f"{notify}:{claimed.id.hex}:{rescued.generation}"]


async def test_a_ring_that_nobody_will_answer_is_removed(resources: Resources, job: Job, claimed: Job) -> None:
    notify = queue_name(resources.settings, Queue.INGESTION)
    await sweep_jobs(resources)
    assert await resources.redis.zcard(notify) == 1  # its worker is busy with it
    async with resources.pool.acquire() as conn:
        await jobs.finish_job(conn, claimed)
    await sweep_jobs(resources)
    assert await resources.redis.zcard(notify) == 0
    assert await resources.redis.keys(f"arq:*{job.id.hex}*") == []


async def test_what_stands_in_the_queue_for_no_job_of_ours_is_left_to_arq(resources: Resources) -> None:
    notify = queue_name(resources.settings, Queue.INGESTION)
    await resources.redis.zadd(notify, {"a stranger": 1, f"{notify}:no-uuid:1": 2})
    await sweep_jobs(resources)
    assert await resources.redis.zcard(notify) == 2


async def test_sweepers_at_once_rescue_a_job_once(resources: Resources, claimed: Job) -> None:
    await expire(resources, claimed)
    await asyncio.gather(*(sweep_jobs(resources) for _ in range(5)))
    assert (await reload_job(resources, claimed)).rescues == 1


async def test_a_process_that_froze_in_its_sweep_does_not_keep_the_others_from_sweeping(
    resources: Resources, claimed: Job
) -> None:
    await expire(resources, claimed)

    async def is_rescued() -> bool:
        await sweep_jobs(resources)
        return (await reload_job(resources, claimed)).rescues == 1

    async with resources.pool.acquire() as frozen:
        await frozen.transaction().start()
        assert await jobs.try_lock(frozen, f"{resources.settings.stores.queue_prefix}:sweep", idle_limit_s=0.3)
        assert not await is_rescued()
        await until(is_rescued)


async def test_a_live_lease_is_left_alone(resources: Resources, claimed: Job) -> None:
    await sweep_jobs(resources)
    assert (await reload_job(resources, claimed)).lease_token == claimed.lease_token


async def test_depths_tell_queued_ready_running_and_dead(resources: Resources, claimed: Job) -> None:
    async with resources.pool.acquire() as conn:
        depths = {depth.queue: depth for depth in await queue_state.select_queue_depths(conn)}
    assert (depths[Queue.INGESTION].running, depths[Queue.INGESTION].queued) == (1, 0)
    assert (depths[Queue.DELETION].running, depths[Queue.DELETION].paused) == (0, False)
    assert claimed.queue is Queue.INGESTION

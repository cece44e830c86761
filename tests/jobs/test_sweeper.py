"""The sweeper repairs queues after lost notifications, silent workers and frozen processes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ragsvc.db import jobs, queue_state
from ragsvc.deletion.requests import request_document_deletion
from ragsvc.domain.documents import DocumentStatus
from ragsvc.domain.jobs import DeadLetterFilter, JobStatus, Queue
from ragsvc.errors.work import DocumentErrorCode, DocumentRejected
from ragsvc.jobs import dead_letters, lifecycle, retry_policy, sweeper
from ragsvc.jobs.sweeper import sweep_jobs
from ragsvc.queue.connection import queue_name
from tests.support.documents.documents import accept, job_of, reload, reload_job
from tests.support.jobs import expire
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest

    from ragsvc.domain.documents import Document
    from ragsvc.domain.jobs import Job
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources


async def make_overdue(resources: Resources, job: Job) -> None:
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE jobs SET run_at = now() - interval '1 minute' WHERE id = $1", job.id)


async def test_a_flushed_redis_loses_no_job(resources: Resources, job: Job) -> None:
    queue_key = queue_name(resources.settings, Queue.INGESTION)
    await resources.redis.delete(queue_key, *await resources.redis.keys(f"arq:*{job.id.hex}*"))
    await make_overdue(resources, job)
    assert await sweep_jobs(resources) == 1
    assert await resources.redis.zcard(queue_key) == 1


async def test_jobs_whose_notifications_are_in_redis_are_not_notified_again(resources: Resources, job: Job) -> None:
    await make_overdue(resources, job)
    assert await sweep_jobs(resources) == 0


async def test_a_job_of_a_silent_worker_is_requeued_and_counts_no_attempt(
    resources: Resources, document: Document, claimed: Job
) -> None:
    await expire(resources, claimed)
    await sweep_jobs(resources)
    rescued = await reload_job(resources, claimed)
    assert (rescued.status, rescued.attempts, rescued.rescues) == (JobStatus.QUEUED, 0, 1)
    assert (await reload(resources, document)).status is DocumentStatus.QUEUED
    queue_key = queue_name(resources.settings, Queue.INGESTION)
    members = await resources.redis.zrange(queue_key, 0, -1)
    assert [member.decode() for member in members] == [f"{queue_key}:{claimed.id.hex}:{rescued.generation}"]


async def test_a_notification_of_a_finished_job_is_removed(resources: Resources, job: Job, claimed: Job) -> None:
    queue_key = queue_name(resources.settings, Queue.INGESTION)
    await sweep_jobs(resources)
    assert await resources.redis.zcard(queue_key) == 1  # its job is still running
    async with resources.pool.acquire() as conn:
        await jobs.finish_job(conn, claimed)
    await sweep_jobs(resources)
    assert await resources.redis.zcard(queue_key) == 0
    assert await resources.redis.keys(f"arq:*{job.id.hex}*") == []


async def test_queue_entries_of_other_programs_are_left_to_arq(resources: Resources) -> None:
    queue_key = queue_name(resources.settings, Queue.INGESTION)
    await resources.redis.zadd(queue_key, {"unrelated": 1, f"{queue_key}:no-uuid:1": 2})
    await sweep_jobs(resources)
    assert await resources.redis.zcard(queue_key) == 2


async def test_a_locked_job_delays_neither_notifications_nor_other_rescues(
    resources: Resources, workspace: Workspace, claimed: Job
) -> None:
    other = await job_of(resources, await accept(resources, workspace))
    rescued = await lifecycle.claim(resources.pool, other.id, queue=other.queue, owner="worker-2", lease_s=30)
    assert rescued is not None
    waiting = await job_of(resources, await accept(resources, workspace))
    await make_overdue(resources, waiting)
    await resources.redis.delete(*await resources.redis.keys(f"*{waiting.id.hex}*"))
    await resources.redis.delete(queue_name(resources.settings, Queue.INGESTION))
    for silent in (claimed, rescued):
        await expire(resources, silent)
    async with resources.pool.acquire() as stuck, stuck.transaction():
        await jobs.fence(stuck, claimed)  # a worker that froze before its commit
        assert await sweep_jobs(resources) == 1
        assert (await reload_job(resources, claimed)).status is JobStatus.RUNNING
        assert (await reload_job(resources, rescued)).status is JobStatus.QUEUED
    await sweep_jobs(resources)
    assert (await reload_job(resources, claimed)).status is JobStatus.QUEUED


async def test_a_backlog_of_one_queue_does_not_hide_the_jobs_of_the_other(
    resources: Resources, workspace: Workspace, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "BATCH", 1)
    for _ in range(3):
        await make_overdue(resources, await job_of(resources, await accept(resources, workspace)))
    deleted = await accept(resources, workspace)
    await request_document_deletion(resources, workspace.id, deleted.id, purge_file=True)
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE jobs SET run_at = now() - interval '5 seconds' WHERE queue = 'deletion'")
    await make_overdue(resources, job)
    await resources.redis.delete(*await resources.redis.keys(f"*{resources.settings.stores.queue_prefix}:*"))
    assert await sweep_jobs(resources) == 5
    assert await resources.redis.zcard(queue_name(resources.settings, Queue.DELETION)) == 1
    assert await resources.redis.zcard(queue_name(resources.settings, Queue.INGESTION)) == 4


async def test_entries_of_the_dead_letter_list_that_are_unreadable_are_removed(
    resources: Resources, workspace: Workspace
) -> None:
    failed = await accept(resources, workspace)
    dead = await job_of(resources, failed)
    claimed = await lifecycle.claim(resources.pool, dead.id, queue=dead.queue, owner="worker-1", lease_s=30)
    assert claimed is not None
    failure = retry_policy.classify(DocumentRejected(DocumentErrorCode.CORRUPT, "damaged"))
    await lifecycle.fail(resources.pool, claimed, failure, settings=resources.settings)
    key = f"{resources.settings.stores.queue_prefix}:ingestion:dlq"
    command: Callable[..., Awaitable[Any]] = resources.redis.execute_command
    for garbage in (b"no JSON", b"[]", b'{"entry_id": 1}', b"\xff"):
        await command("LPUSH", key, garbage)
    await sweep_jobs(resources)
    assert await command("LLEN", key) == 1
    replayed = await dead_letters.replay(resources, Queue.INGESTION, DeadLetterFilter())
    assert replayed.replayed == 1


async def test_concurrent_sweepers_rescue_a_job_once(resources: Resources, claimed: Job) -> None:
    await expire(resources, claimed)
    await asyncio.gather(*(sweep_jobs(resources) for _ in range(5)))
    assert (await reload_job(resources, claimed)).rescues == 1


async def test_a_process_that_freezes_during_a_sweep_does_not_block_other_sweepers(
    resources: Resources, claimed: Job
) -> None:
    await expire(resources, claimed)

    async def is_rescued() -> bool:
        await sweep_jobs(resources)
        return (await reload_job(resources, claimed)).rescues == 1

    async with resources.pool.acquire() as frozen:
        await frozen.transaction().start()
        assert await jobs.try_lock(frozen, f"{resources.settings.stores.queue_prefix}:sweep", idle_limit_s=3.0)
        assert not await is_rescued()
        await until(is_rescued, timeout_s=30)


async def test_a_valid_lease_is_not_changed(resources: Resources, claimed: Job) -> None:
    await sweep_jobs(resources)
    assert (await reload_job(resources, claimed)).lease_token == claimed.lease_token


async def test_queue_depths_count_queued_ready_running_and_dead_jobs(resources: Resources, claimed: Job) -> None:
    async with resources.pool.acquire() as conn:
        depths = {depth.queue: depth for depth in await queue_state.select_queue_depths(conn)}
    assert (depths[Queue.INGESTION].running, depths[Queue.INGESTION].queued) == (1, 0)
    assert (depths[Queue.DELETION].running, depths[Queue.DELETION].paused) == (0, False)
    assert claimed.queue is Queue.INGESTION

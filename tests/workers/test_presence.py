"""Workers are seen while they have nothing to do, and missed when they are gone."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from ragsvc.db import workers
from ragsvc.domain.jobs import Queue
from ragsvc.retention import sweep_ended_rows
from ragsvc.workers.presence import present
from tests.support.polling import until

if TYPE_CHECKING:
    from ragsvc.domain.workers import WorkerCount, WorkerProcess
    from ragsvc.resources import Resources


async def list_workers(resources: Resources) -> list[WorkerProcess]:
    async with resources.pool.acquire() as conn:
        return await workers.select_workers(conn)


async def count_workers(resources: Resources) -> dict[Queue, WorkerCount]:
    async with resources.pool.acquire() as conn:
        return {count.queue: count for count in await workers.select_worker_counts(conn)}


async def test_an_idle_worker_is_seen_until_it_stops(resources: Resources) -> None:
    looked_at = time.monotonic() - 5
    ctx = {"resources": resources, "queue": Queue.DELETION, "owner": "host:1", "looked_at": looked_at}

    async def is_seen() -> bool:
        return bool(await list_workers(resources))

    async with present(ctx, concurrency=4):
        await until(is_seen, what="the worker")
        (worker,) = await list_workers(resources)
        assert (worker.queue, worker.name, worker.concurrency, worker.is_alive) == (Queue.DELETION, "host:1", 4, True)
        assert (worker.last_seen_at - worker.last_look_at).total_seconds() >= 5
        counts = await count_workers(resources)
        assert (counts[Queue.DELETION].alive, counts[Queue.INGESTION].alive) == (1, 0)
    assert await list_workers(resources) == []
    assert (await count_workers(resources))[Queue.INGESTION].last_seen_age_s is None


async def test_a_worker_that_fell_silent_is_missed_and_forgotten_after_an_hour(resources: Resources) -> None:
    silence = "UPDATE workers SET last_seen_at = now() - make_interval(secs => $1)"
    ctx = {"resources": resources, "queue": Queue.INGESTION, "owner": "host:1"}
    # Killed: it does not sign off.
    killed = asyncio.create_task(_live(ctx))

    async def is_seen() -> bool:
        return bool(await list_workers(resources))

    await until(is_seen, what="the worker")
    async with resources.pool.acquire() as conn:
        await conn.execute(silence, workers.ALIVE_S + 1.0)
    count = (await count_workers(resources))[Queue.INGESTION]
    assert count.alive == 0
    assert count.last_seen_age_s is not None
    assert count.last_seen_age_s > workers.ALIVE_S
    assert [worker.is_alive for worker in await list_workers(resources)] == [False]
    async with resources.pool.acquire() as conn:
        await conn.execute(silence, 3601.0)
    await sweep_ended_rows(resources)
    assert await list_workers(resources) == []
    killed.cancel()
    await asyncio.wait({killed})


async def _live(ctx: dict[str, object]) -> None:
    async with present(ctx, concurrency=1):
        await asyncio.Event().wait()

"""The arq worker that wakes: how soon it starts, and what it outlives."""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from arq.worker import func

from ragsvc.queue.connection import deserialize, redis_settings, serialize, wake_channel
from ragsvc.workers.wake import WakeWorker
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.queue.connection import RedisConnection
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings


@asynccontextmanager
async def working(settings: Settings, queue: str, functions: dict[str, Any]) -> AsyncIterator[WakeWorker]:
    worker = WakeWorker(
        functions=[func(coroutine, name=name) for name, coroutine in functions.items()],
        queue_name=queue,
        redis_settings=redis_settings(settings),
        poll_delay=0,
        keep_result=0,
        job_serializer=serialize,
        job_deserializer=deserialize,
        handle_signals=False,
        max_jobs=10,
    )
    running = asyncio.create_task(worker.async_run())
    try:
        await until(lambda: worker._listener is not None)
        yield worker
        await until(lambda: all(task.done() for task in worker.tasks.values()))
    finally:
        await worker.close()
        await asyncio.gather(running, return_exceptions=True)


async def notify(redis: RedisConnection, queue: str, job_id: str, *, name: str = "note") -> object:
    job = await redis.enqueue_job(name, job_id, _job_id=f"{queue}:{job_id}", _queue_name=queue)
    await redis.publish(wake_channel(queue), b"1")
    return job


async def test_a_job_starts_within_milliseconds_of_its_ring(resources: Resources) -> None:
    queue = f"{resources.settings.stores.queue_prefix}:speed"
    started: dict[str, float] = {}

    async def note(_ctx: dict[str, Any], job_id: str) -> None:
        started[job_id] = time.perf_counter()

    async with working(resources.settings, queue, {"note": note}):
        await notify(resources.redis, queue, "warm")
        await until(lambda: "warm" in started)
        delays = []
        for n in range(30):
            rung = time.perf_counter()
            await notify(resources.redis, queue, str(n))
            await until(partial(started.get, str(n)))
            delays.append(started[str(n)] - rung)
    # arq as it comes needs 295 ms (its poll delay is 500 ms). The goal of 10 ms is measured by tests/bench/queue, on a
    # machine that does nothing else; beside other tests a third of arq's shows that the wake works.
    assert statistics.median(delays) < 0.1


async def test_a_ring_before_the_worker_listens_is_heard(resources: Resources) -> None:
    queue = f"{resources.settings.stores.queue_prefix}:early"
    done = asyncio.Event()

    async def note(_ctx: dict[str, Any], _job_id: str) -> None:
        done.set()

    await notify(resources.redis, queue, "early")
    async with working(resources.settings, queue, {"note": note}), asyncio.timeout(10):
        await done.wait()
    assert await resources.redis.zcard(queue) == 0


async def test_an_undecodable_body_and_an_unknown_name_stop_no_worker(resources: Resources) -> None:
    queue, done = f"{resources.settings.stores.queue_prefix}:junk", asyncio.Event()

    async def note(_ctx: dict[str, Any], _job_id: str) -> None:
        done.set()

    await notify(resources.redis, queue, "junk")
    await resources.redis.set(f"arq:job:{queue}:junk", b"\x80 not json")
    await notify(resources.redis, queue, "unknown", name="no_such_function")
    async with working(resources.settings, queue, {"note": note}), asyncio.timeout(10):
        await notify(resources.redis, queue, "good")
        await done.wait()

        async def is_empty() -> bool:
            return bool(await resources.redis.zcard(queue) == 0)

        await until(is_empty)
    assert done.is_set()


async def test_a_worker_outlives_the_loss_of_all_its_connections(resources: Resources) -> None:
    queue, done = f"{resources.settings.stores.queue_prefix}:cut", []

    async def note(_ctx: dict[str, Any], job_id: str) -> None:
        done.append(job_id)

    async with working(resources.settings, queue, {"note": note}) as worker:
        await notify(resources.redis, queue, "before")
        await until(lambda: "before" in done)
        await worker.pool.connection_pool.disconnect()
        await notify(resources.redis, queue, "after")
        await until(lambda: "after" in done, timeout_s=20)
    assert done == ["before", "after"]


async def test_places_taken_for_jobs_that_could_not_start_are_freed(resources: Resources) -> None:
    async def note(_ctx: dict[str, Any], _job_id: str) -> None: ...

    async with working(resources.settings, f"{resources.settings.stores.queue_prefix}:count", {"note": note}) as worker:
        worker.job_counter = 7
        await worker.sem.acquire()
        await worker._reset_slots()
        assert worker.job_counter == 0
        assert worker.sem._value == worker.max_jobs + 1


async def test_a_worker_stops_and_closes_what_it_opened_while_redis_is_away(resources: Resources) -> None:
    closed = asyncio.Event()

    async def note(_ctx: dict[str, Any], _job_id: str) -> None: ...

    async def on_shutdown(ctx: dict[Any, Any]) -> None:
        assert ctx["stopping"].is_set()
        closed.set()

    async with working(resources.settings, f"{resources.settings.stores.queue_prefix}:away", {"note": note}) as worker:
        worker.on_shutdown = on_shutdown
        # As if Redis had gone: nothing answers at this port.
        worker.pool.connection_pool.connection_kwargs["port"] = 1
        await worker.pool.connection_pool.disconnect()
        async with asyncio.timeout(30):
            await worker.close()
    assert closed.is_set()

"""The arq worker that notifications wake: how it starts jobs, and which failures it survives."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from arq.worker import func

from ragsvc.queue.connection import deserialize, redis_settings, serialize, wake_channel
from ragsvc.workers import wake
from ragsvc.workers.wake import WakeWorker
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

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


async def test_a_notification_starts_a_job_without_waiting_for_the_next_poll(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = f"{resources.settings.stores.queue_prefix}:speed"
    started: list[str] = []

    async def note(_ctx: dict[str, Any], job_id: str) -> None:
        started.append(job_id)

    async with working(resources.settings, queue, {"note": note}) as worker:
        await notify(resources.redis, queue, "warm")
        await until(lambda: "warm" in started)
        # The worker does not poll again during the test, so only the notification can start a job. How soon that
        # happens depends on the machine; the benchmark in tests/bench/queue measured 10 ms.
        monkeypatch.setattr(wake, "IDLE_S", 3600.0)
        for n in range(30):
            await notify(resources.redis, queue, str(n))
            await until(partial(started.__contains__, str(n)))
            # The end of a job also causes a poll, and that poll must not be what starts the next job.
            await until(lambda: not worker.tasks)
    assert started == ["warm", *map(str, range(30))]


async def test_a_notification_sent_before_the_worker_listens_is_processed(resources: Resources) -> None:
    queue = f"{resources.settings.stores.queue_prefix}:early"
    done = asyncio.Event()

    async def note(_ctx: dict[str, Any], _job_id: str) -> None:
        done.set()

    await notify(resources.redis, queue, "early")
    async with working(resources.settings, queue, {"note": note}), asyncio.timeout(10):
        await done.wait()
    assert await resources.redis.zcard(queue) == 0


async def test_an_undecodable_body_and_an_unknown_function_do_not_stop_the_worker(resources: Resources) -> None:
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


async def test_a_worker_survives_the_loss_of_all_its_connections(resources: Resources) -> None:
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


async def test_slots_acquired_for_jobs_that_could_not_start_are_released(resources: Resources) -> None:
    async def note(_ctx: dict[str, Any], _job_id: str) -> None: ...

    async with working(resources.settings, f"{resources.settings.stores.queue_prefix}:count", {"note": note}) as worker:
        worker.job_counter = 7
        await worker.sem.acquire()
        await worker._reset_slots()
        assert worker.job_counter == 0
        assert worker.sem._value == worker.max_jobs + 1


async def test_a_worker_stops_and_closes_its_resources_while_redis_is_unavailable(resources: Resources) -> None:
    closed = asyncio.Event()

    async def note(_ctx: dict[str, Any], _job_id: str) -> None: ...

    async def on_shutdown(ctx: dict[Any, Any]) -> None:
        assert ctx["stopping"].is_set()
        closed.set()

    async with working(resources.settings, f"{resources.settings.stores.queue_prefix}:away", {"note": note}) as worker:
        worker.on_shutdown = on_shutdown
        # Nothing listens on this port, as if Redis were unavailable.
        worker.pool.connection_pool.connection_kwargs["port"] = 1
        await worker.pool.connection_pool.disconnect()
        async with asyncio.timeout(30):
            await worker.close()
    assert closed.is_set()

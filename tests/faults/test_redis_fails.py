"""Redis is emptied, killed, frozen, full or read-only: documents are still accepted, and none is lost."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from ragsvc.domain.jobs import Queue
from ragsvc.queue.connection import open_redis
from ragsvc.queue.notifier import Notifier
from tests.faults.support.end_state import assert_ready_once, job_of
from tests.faults.support.fleet import SOON_S
from tests.faults.support.own_servers import CuttingProxy
from tests.faults.support.texts import make_text
from tests.support.servers.model_server import Slow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.domain.documents import Document
    from ragsvc.domain.workspaces import Workspace
    from tests.faults.support.fleet import Fleet

pytestmark = pytest.mark.xdist_group("faults")

# The longest that documents may take to become ready once Redis is back, because sweeps must run and clients reconnect.
RECOVERY_S = 30.0


async def accept_many(fleet: Fleet, workspace: Workspace, count: int) -> list[Document]:
    """Accept documents one after another."""
    return [await fleet.accept(workspace, make_text(sections=1)) for _ in range(count)]


async def flush_with_queued(fleet: Fleet, workspace: Workspace, count: int) -> set[int]:
    """Flush Redis while documents are queued, and return the set of how many attempts each needed."""
    async with fleet.frozen(), fleet.redis.client() as redis:
        documents = await accept_many(fleet, workspace, count)
        await redis.flushall()
    await assert_ready_once(fleet, workspace, documents, timeout_s=60 + count)
    return {(await job_of(fleet, document)).attempts for document in documents}


async def test_flushall_with_60_queued(fleet: Fleet, workspace: Workspace) -> None:
    assert await flush_with_queued(fleet, workspace, 60) == {1}


@pytest.mark.chaos
async def test_flushall_with_500_queued(fleet: Fleet, workspace: Workspace) -> None:
    assert await flush_with_queued(fleet, workspace, 500) == {1}


async def test_redis_killed_and_restarted_empty(fleet: Fleet, workspace: Workspace) -> None:
    fleet.models.embeddings.usual = Slow(0.2)
    documents = await accept_many(fleet, workspace, 8)
    await fleet.redis.kill()
    fleet.redis.lose_data()
    await fleet.redis.start()
    documents += await accept_many(fleet, workspace, 2)
    await assert_ready_once(fleet, workspace, documents)
    assert len(fleet.ingestion) == 2  # no worker has exited


@asynccontextmanager
async def redis_outage(fleet: Fleet, seconds: float, *, how: str) -> AsyncIterator[None]:
    """Make Redis refuse or ignore clients until the `with` block ends, and for at least `seconds`."""
    until_s = time.monotonic() + seconds
    if how == "silent":
        with fleet.redis.frozen():
            yield
            await asyncio.sleep(max(0.0, until_s - time.monotonic()))
    else:
        await fleet.redis.kill()
        yield
        await asyncio.sleep(max(0.0, until_s - time.monotonic()))
        await fleet.redis.start()


async def lose_redis(fleet: Fleet, workspace: Workspace, seconds: float, *, how: str, busy: bool) -> None:
    fleet.models.embeddings.usual = Slow(0.3) if busy else None
    documents = await accept_many(fleet, workspace, 6 if busy else 0)
    async with redis_outage(fleet, seconds, how=how):
        # Documents are accepted before Redis is back; accepting one waits only until its notification times out.
        async with asyncio.timeout(SOON_S):
            documents += await accept_many(fleet, workspace, 2)
    documents += await accept_many(fleet, workspace, 1)
    returned = time.monotonic()
    await assert_ready_once(fleet, workspace, documents, timeout_s=RECOVERY_S + 2 * len(documents))
    print(f"Redis {how} for {seconds} s: all ready {time.monotonic() - returned:.1f} s later")  # noqa: T201


@pytest.mark.parametrize(
    ("seconds", "how", "busy"), [(1, "silent", True), (4, "refusing", True), (1, "refusing", False)]
)
async def test_a_redis_outage_of_seconds(
    fleet: Fleet, workspace: Workspace, seconds: float, how: str, *, busy: bool
) -> None:
    await lose_redis(fleet, workspace, seconds, how=how, busy=busy)
    assert len(fleet.ingestion) == 2  # no worker has exited


@pytest.mark.chaos
@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("how", ["silent", "refusing"])
@pytest.mark.parametrize("seconds", [1, 4, 60])
async def test_a_redis_outage_of_up_to_a_minute(
    fleet: Fleet, workspace: Workspace, seconds: float, how: str, *, busy: bool
) -> None:
    await lose_redis(fleet, workspace, seconds, how=how, busy=busy)
    assert len(fleet.ingestion) == 2  # no worker has exited


async def test_a_connection_cut_between_watch_and_exec(fleet: Fleet, workspace: Workspace) -> None:
    async with CuttingProxy(fleet.redis.port, b"EXEC") as proxy:
        settings = fleet.settings.changed({"redis_url": proxy.url_of(fleet.redis.url)})
        redis = open_redis(settings)
        cut_off = replace(fleet.resources, redis=redis, notifier=Notifier(redis, settings))
        document = await fleet.accept(workspace, make_text(), resources=cut_off)
        await redis.aclose()
    assert proxy.cuts > 0
    await assert_ready_once(fleet, workspace, [document])
    assert (await job_of(fleet, document)).attempts == 1


async def test_redis_out_of_memory(fleet: Fleet, workspace: Workspace) -> None:
    async with fleet.redis.client() as redis:
        await redis.config_set("maxmemory", "1")
        documents = await accept_many(fleet, workspace, 3)
        await redis.config_set("maxmemory", "0")
    await assert_ready_once(fleet, workspace, documents)


async def test_a_read_only_redis(fleet: Fleet, workspace: Workspace) -> None:
    async with fleet.redis.client() as redis:
        await redis.replicaof("127.0.0.1", "1")
        documents = await accept_many(fleet, workspace, 3)
        await redis.replicaof("NO", "ONE")
    await assert_ready_once(fleet, workspace, documents)
    assert len(fleet.ingestion) == 2


async def test_a_queue_that_redis_evicted_without_the_bodies(fleet: Fleet, workspace: Workspace) -> None:
    async with fleet.frozen(), fleet.redis.client() as redis:
        documents = await accept_many(fleet, workspace, 3)
        assert await redis.delete(f"{fleet.settings.stores.queue_prefix}:{Queue.INGESTION}") == 1
    await assert_ready_once(fleet, workspace, documents)
    assert {(await job_of(fleet, document)).attempts for document in documents} == {1}


async def test_an_undecodable_body_and_an_unknown_function_name(fleet: Fleet, workspace: Workspace) -> None:
    queue = f"{fleet.settings.stores.queue_prefix}:{Queue.INGESTION}"
    async with fleet.frozen(), fleet.redis.client() as redis:
        documents = await accept_many(fleet, workspace, 3)
        bodies = [key async for key in redis.scan_iter("arq:job:*")]
        assert len(bodies) == len(documents)
        await redis.set(bodies[0], b"\x80\x04 no JSON")
        await redis.set(bodies[1], b'{"t": null, "f": "no_such_function", "a": [], "k": {}, "et": 1}')
        # Entries that belong to no job.
        await redis.zadd(queue, {"unrelated": 1, f"{queue}:no-uuid:x": 2})
    await assert_ready_once(fleet, workspace, documents)
    assert {(await job_of(fleet, document)).attempts for document in documents} == {1}


async def test_a_25_h_backlog(fleet: Fleet, workspace: Workspace) -> None:
    hours = 25
    queue = f"{fleet.settings.stores.queue_prefix}:{Queue.INGESTION}"
    async with fleet.frozen(), fleet.redis.client() as redis:
        documents = await accept_many(fleet, workspace, 6)
        async with fleet.resources.pool.acquire() as conn:
            await conn.execute(
                "UPDATE jobs SET created_at = created_at - $2::interval, run_at = run_at - $2::interval"
                " WHERE workspace_id = $1",
                workspace.id,
                timedelta(hours=hours),
            )
        # Redis still has the notifications, but half of their bodies have expired.
        for notification_id in await redis.zrange(queue, 0, -1):
            await redis.zincrby(queue, -hours * 3_600_000, notification_id)
        bodies = [key async for key in redis.scan_iter("arq:job:*")]
        await redis.delete(*bodies[::2])
    await assert_ready_once(fleet, workspace, documents)
    assert {(await job_of(fleet, document)).attempts for document in documents} == {1}

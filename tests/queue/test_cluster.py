"""Redis Cluster: connections follow whichever node owns the prefix's slot."""

from __future__ import annotations

import asyncio
import inspect
import uuid
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import arq.jobs
import arq.worker
import pytest
from pydantic import SecretStr
from redis.asyncio.connection import Connection

from ragsvc.devstack.ports import free_ports
from ragsvc.domain.documents import DocumentStatus
from ragsvc.domain.jobs import JobStatus
from ragsvc.queue.cluster import move_arq_to_slot
from ragsvc.queue.connection import REDIS_TROUBLE, list_nodes, open_redis, wait_for_redis
from ragsvc.resources import open_resources
from tests.support.documents.documents import SAMPLE, accept, reload
from tests.support.polling import until
from tests.support.servers import redis_cluster
from tests.support.servers.model_server import Pause
from tests.support.servers.redis import command
from tests.support.servers.redis_cluster import slot_of
from tests.support.servers.worker_processes import working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.domain.documents import Document
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.queue.connection import RedisConnection
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings
    from tests.support.servers.model_server import ScriptedModels
    from tests.support.servers.redis_cluster import Node, RedisCluster

# The tests of this file share a cluster and leave it healthy.
pytestmark = pytest.mark.xdist_group("redis_cluster")

RECOVERY_S = 60.0


@pytest.fixture(scope="module")
async def cluster() -> AsyncIterator[RedisCluster]:
    async with redis_cluster.serving() as served:
        yield served


@pytest.fixture
def prefix() -> str:
    """A prefix whose slot is on a different master than arq's global key, so that a key outside the slot is noticed."""
    while True:
        made = f"{{test-{uuid.uuid4().hex[:12]}}}"
        if master_index_of(made) != master_index_of("arq:abort"):
            return made


def master_index_of(key: str) -> int:
    return slot_of(key) * redis_cluster.MASTERS // redis_cluster.SLOTS


@pytest.fixture
async def owner(cluster: RedisCluster, prefix: str) -> AsyncIterator[Node]:
    """The node that owns the prefix's slot when the test begins; all nodes run again when it ends."""
    found = await cluster.owner_of(prefix)
    yield found
    found.thaw()
    if not await found.is_available():
        await found.start()
    await until(cluster.is_healthy, timeout_s=redis_cluster.FAILOVER_S, what="the cluster")


def in_cluster(settings: Settings, prefix: str, url: str) -> Settings:
    return settings.changed({"redis_cluster": True, "queue_prefix": prefix, "redis_url": SecretStr(url)})


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[RedisConnection]:
    redis = open_redis(settings)
    try:
        yield redis
    finally:
        await redis.aclose()


def others(cluster: RedisCluster, node: Node) -> list[Node]:
    return [other for other in cluster.nodes if other is not node]


async def try_set(redis: RedisConnection, key: str) -> bool:
    try:
        return bool(await redis.set(key, b"1"))
    except REDIS_TROUBLE:
        return False


async def test_the_owner_is_found_through_any_node(
    cluster: RedisCluster, owner: Node, prefix: str, base_settings: Settings
) -> None:
    for node in cluster.nodes:
        async with opened(in_cluster(base_settings, prefix, cluster.url(node))) as redis:
            await redis.set(f"{prefix}:{node.port}", b"1")
    assert {f"{prefix}:{node.port}" for node in cluster.nodes} <= await owner.keys()


async def test_an_unavailable_node_is_skipped(
    cluster: RedisCluster, owner: Node, prefix: str, base_settings: Settings
) -> None:
    url = cluster.url(owner).replace("127.0.0.1", f"127.0.0.1:{free_ports(1)[0]},127.0.0.1")
    async with opened(in_cluster(base_settings, prefix, url)) as redis:
        assert await redis.set(f"{prefix}:there", b"1")


async def test_a_redis_that_is_not_a_cluster_is_refused(base_settings: Settings, prefix: str) -> None:
    settings = in_cluster(base_settings, prefix, base_settings.stores.redis_url.get_secret_value())
    async with opened(settings) as redis:
        with pytest.raises(REDIS_TROUBLE, match="No node of the Redis Cluster reports an owner of slot"):
            await redis.ping()


async def test_a_connection_follows_a_slot_that_moves_to_a_replica(
    cluster: RedisCluster, owner: Node, prefix: str, base_settings: Settings
) -> None:
    async with opened(in_cluster(base_settings, prefix, cluster.url(owner))) as redis:
        await redis.set(f"{prefix}:before", b"1")
        slots = await owner.client.execute_command("CLUSTER SLOTS")
        port = next(nodes[1][1] for first, last, *nodes in slots if first <= slot_of(prefix) <= last)
        replica = next(node for node in cluster.nodes if node.port == port)
        await replica.client.execute_command("CLUSTER", "FAILOVER")

        async def has_moved() -> bool:
            return await cluster.owner_of(prefix) is replica

        await until(has_moved, timeout_s=redis_cluster.FAILOVER_S)
        # The open connection now leads to a replica, but the caller does not notice.
        assert await redis.set(f"{prefix}:after", b"1")
        assert await redis.get(f"{prefix}:before") == b"1"


async def test_a_connection_finds_the_new_owner_when_the_only_configured_node_is_killed(
    cluster: RedisCluster, owner: Node, prefix: str, base_settings: Settings
) -> None:
    async with opened(in_cluster(base_settings, prefix, cluster.url(owner))) as redis:
        await redis.set(f"{prefix}:before", b"1")
        await owner.kill()
        assert not await try_set(redis, f"{prefix}:at once")
        await until(lambda: try_set(redis, f"{prefix}:after"), timeout_s=redis_cluster.FAILOVER_S)
    assert await cluster.owner_of(prefix) is not owner


async def test_a_connection_abandons_an_owner_that_hangs_even_if_callers_time_out_first(
    cluster: RedisCluster, owner: Node, prefix: str, base_settings: Settings
) -> None:
    async with opened(in_cluster(base_settings, prefix, cluster.url(owner))) as redis:

        async def is_set_in_time() -> bool:
            try:
                async with asyncio.timeout(0.5):
                    return bool(await redis.set(f"{prefix}:key", b"1"))
            except REDIS_TROUBLE:
                return False

        assert await is_set_in_time()
        owner.freeze()
        assert not await is_set_in_time()
        await until(is_set_in_time, timeout_s=redis_cluster.FAILOVER_S)
        assert await cluster.owner_of(prefix) is not owner


async def test_a_worker_that_starts_before_redis_waits_for_it(
    cluster: RedisCluster, owner: Node, prefix: str, base_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ragsvc.queue.connection.CONNECT_INTERVAL_S", 0.05)
    port = free_ports(1)[0]
    async with opened(
        in_cluster(base_settings, prefix, cluster.url(owner).replace(str(owner.port), str(port)))
    ) as redis:
        waiting = asyncio.create_task(wait_for_redis(redis))
        await until(lambda: redis.connection_pool.connection_kwargs["owner"]._nodes)
        assert not (await asyncio.wait({waiting}, timeout=0.3))[0]
        redis.connection_pool.connection_kwargs["owner"]._nodes.append(("127.0.0.1", owner.port))
        await waiting


def test_a_url_can_list_several_nodes(base_settings: Settings) -> None:
    settings = base_settings.changed({"redis_url": SecretStr("rediss://me:a@b@one:1,two:2/0")})
    assert list_nodes(settings) == ["rediss://me:a@b@one:1/0", "rediss://me:a@b@two:2/0"]


def test_arq_and_redis_py_still_have_the_internals_that_cluster_support_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (arq.worker, arq.jobs):
        monkeypatch.setattr(module, "abort_jobs_ss", vars(module)["abort_jobs_ss"])
    move_arq_to_slot("{rag}")
    assert {vars(module)["abort_jobs_ss"] for module in (arq.worker, arq.jobs)} == {"{rag}:abort"}
    assert "tr.zrem(abort_jobs_ss, job_id)" in inspect.getsource(arq.worker.Worker.finish_job)
    assert inspect.iscoroutinefunction(Connection._connect)


@pytest.fixture
def fast_settings(cluster: RedisCluster, prefix: str, settings: Settings, scripted_models: ScriptedModels) -> Settings:
    """Settings with which workers recover in seconds."""
    return in_cluster(scripted_models.applied_to(settings), prefix, cluster.url(*cluster.nodes)).changed(
        {
            "job_lease_s": 6.0,
            "sweep_interval_s": 0.5,
            "backoff_cap_s": 1.0,
            "ingestion_concurrency": 2,
        }
    )


async def accept_many(resources: Resources, workspace: Workspace, names: list[str]) -> list[Document]:
    return await asyncio.gather(
        *(
            accept(resources, workspace, SAMPLE + f"\nKettle {name}.\n".encode(), filename=f"{name}.md")
            for name in names
        )
    )


async def are_ready(resources: Resources, documents: list[Document]) -> bool:
    shown = [await reload(resources, document) for document in documents]
    assert not [document.error for document in shown if document.status is DocumentStatus.FAILED]
    return all(document.status is DocumentStatus.READY for document in shown)


async def check_each_document_is_indexed_once(resources: Resources, documents: list[Document]) -> None:
    async with resources.pool.acquire() as conn:
        jobs = await conn.fetch("SELECT status, attempts FROM jobs")
        counts = await conn.fetch(
            "SELECT document_id, count(*) AS found, count(DISTINCT ordinal) AS distinct_ordinals"
            " FROM chunk_text GROUP BY document_id"
        )
    assert [(row["status"], row["attempts"]) for row in jobs] == [(JobStatus.DONE, 1)] * len(documents)
    assert {row["document_id"] for row in counts} == {document.id for document in documents}
    for document in documents:
        found = next(row for row in counts if row["document_id"] == document.id)
        assert found["found"] == found["distinct_ordinals"] == (await reload(resources, document)).chunk_count


async def check_keys(cluster: RedisCluster, owner: Node, prefix: str, expected: set[str]) -> None:
    """Assert that every key of the service is in the slot and has the prefix, possibly preceded by one of arq's."""
    keys = {key for key in await owner.keys() if prefix in key}
    kinds = {key[: key.index(prefix)] for key in keys}
    assert kinds == expected
    assert {slot_of(key) for key in keys} == {slot_of(prefix)}
    stray = {key for node in cluster.nodes for key in await node.keys()} - keys
    assert not {key for key in stray if key.startswith("arq:") or "abort" in key}


async def test_a_killed_owner_loses_no_document(
    cluster: RedisCluster, owner: Node, fast_settings: Settings, workspace: Workspace, scripted_models: ScriptedModels
) -> None:
    prefix, settings = (
        fast_settings.stores.queue_prefix,
        fast_settings.changed({"redis_url": SecretStr(cluster.url(owner))}),
    )
    async with open_resources(settings, pool_size=8) as resources, working(settings) as worker:
        documents = await accept_many(resources, workspace, ["first"])
        await until(lambda: are_ready(resources, documents), timeout_s=RECOVERY_S)

        async def is_empty() -> bool:
            return bool(await command(resources.redis, "ZCARD", f"{prefix}:ingestion") == 0)

        # arq removes a finished job together with its abort key, so the queue empties only if both share a slot.
        await until(is_empty)
        first, second = Pause(), Pause()
        scripted_models.embeddings.script(first, second)
        documents += await accept_many(resources, workspace, ["running", "running too", "queued"])
        await asyncio.wait_for(asyncio.gather(first.reached.wait(), second.reached.wait()), RECOVERY_S)
        await check_keys(cluster, owner, prefix, {"", "arq:job:", "arq:in-progress:", "arq:retry:"})
        await owner.kill()
        documents += await accept_many(resources, workspace, ["accepted without redis", "accepted too"])
        first.resumed.set()
        second.resumed.set()
        await until(lambda: are_ready(resources, documents), timeout_s=RECOVERY_S)
        await check_each_document_is_indexed_once(resources, documents)
        assert await cluster.owner_of(prefix) is not owner
        assert worker.returncode is None


@pytest.mark.chaos
async def test_owners_killed_one_after_another_lose_no_document(
    cluster: RedisCluster, fast_settings: Settings, workspace: Workspace
) -> None:
    documents: list[Document] = []
    async with AsyncExitStack() as stack:
        resources = await stack.enter_async_context(open_resources(fast_settings, pool_size=8))
        workers = [await stack.enter_async_context(working(fast_settings)) for _ in range(2)]
        for number in range(6):
            documents += await accept_many(resources, workspace, [f"{number} before {n}" for n in range(8)])
            owner = await cluster.owner_of(fast_settings.stores.queue_prefix)
            await owner.kill()
            documents += await accept_many(resources, workspace, [f"{number} without {n}" for n in range(4)])
            assert await cluster.owner_of(fast_settings.stores.queue_prefix) is not owner
            await owner.start()
            await until(cluster.is_healthy, timeout_s=redis_cluster.FAILOVER_S, what="the cluster")
        await until(lambda: are_ready(resources, documents), timeout_s=2 * RECOVERY_S)
        await check_each_document_is_indexed_once(resources, documents)
        assert [worker.returncode for worker in workers] == [None, None]

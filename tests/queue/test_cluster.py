"""Redis Cluster: one hash tag, one slot, and a connection that follows the slot's owner."""

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
from tests.support.documents import SAMPLE, accept, reload
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

# One cluster for the tests of this file, which leave it whole.
pytestmark = pytest.mark.xdist_group("redis_cluster")

RECOVERY_S = 60.0


@pytest.fixture(scope="module")
async def cluster() -> AsyncIterator[RedisCluster]:
    async with redis_cluster.serving() as served:
        yield served


@pytest.fixture
def prefix() -> str:
    """A prefix whose slot another master owns than that of arq's only key without one: that has to show."""
    while True:
        made = f"{{test-{uuid.uuid4().hex[:12]}}}"
        if third_of(made) != third_of("arq:abort"):
            return made


def third_of(key: str) -> int:
    return slot_of(key) * redis_cluster.MASTERS // redis_cluster.SLOTS


@pytest.fixture
async def owner(cluster: RedisCluster, prefix: str) -> AsyncIterator[Node]:
    """The node that owns the prefix's slot when the test begins; every node is up again when it ends."""
    found = await cluster.owner_of(prefix)
    yield found
    found.thaw()
    if not await found.answers():
        await found.start()
    await until(cluster.is_whole, timeout_s=redis_cluster.FAILOVER_S, what="the cluster")


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


async def sets(redis: RedisConnection, key: str) -> bool:
    try:
        return bool(await redis.set(key, b"1"))
    except REDIS_TROUBLE:
        return False


async def test_every_node_leads_to_the_owner(
    cluster: RedisCluster, owner: Node, prefix: str, base_settings: Settings
) -> None:
    for node in cluster.nodes:
        async with opened(in_cluster(base_settings, prefix, cluster.url(node))) as redis:
            await redis.set(f"{prefix}:{node.port}", b"1")
    assert {f"{prefix}:{node.port}" for node in cluster.nodes} <= await owner.keys()


async def test_a_node_that_is_away_is_passed_over(
    cluster: RedisCluster, owner: Node, prefix: str, base_settings: Settings
) -> None:
    url = cluster.url(owner).replace("127.0.0.1", f"127.0.0.1:{free_ports(1)[0]},127.0.0.1")
    async with opened(in_cluster(base_settings, prefix, url)) as redis:
        assert await redis.set(f"{prefix}:there", b"1")


async def test_a_single_redis_is_no_cluster_and_says_so(base_settings: Settings, prefix: str) -> None:
    settings = in_cluster(base_settings, prefix, base_settings.stores.redis_url.get_secret_value())
    async with opened(settings) as redis:
        with pytest.raises(REDIS_TROUBLE, match="No node of the Redis Cluster tells who owns slot"):
            await redis.ping()


async def test_a_connection_follows_a_slot_that_moves_to_a_replica_while_all_nodes_live(
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
        # The connection that is open leads to what is a replica now; the caller notices nothing.
        assert await redis.set(f"{prefix}:after", b"1")
        assert await redis.get(f"{prefix}:before") == b"1"


async def test_a_connection_finds_the_new_owner_when_the_only_node_it_was_told_of_is_killed(
    cluster: RedisCluster, owner: Node, prefix: str, base_settings: Settings
) -> None:
    async with opened(in_cluster(base_settings, prefix, cluster.url(owner))) as redis:
        await redis.set(f"{prefix}:before", b"1")
        await owner.kill()
        assert not await sets(redis, f"{prefix}:at once")
        await until(lambda: sets(redis, f"{prefix}:after"), timeout_s=redis_cluster.FAILOVER_S)
    assert await cluster.owner_of(prefix) is not owner


async def test_a_connection_leaves_an_owner_that_hangs_even_if_its_callers_have_less_patience_than_it(
    cluster: RedisCluster, owner: Node, prefix: str, base_settings: Settings
) -> None:
    async with opened(in_cluster(base_settings, prefix, cluster.url(owner))) as redis:

        async def sets_soon() -> bool:
            try:
                async with asyncio.timeout(0.5):
                    return bool(await redis.set(f"{prefix}:key", b"1"))
            except REDIS_TROUBLE:
                return False

        assert await sets_soon()
        owner.freeze()
        assert not await sets_soon()
        await until(sets_soon, timeout_s=redis_cluster.FAILOVER_S)
        assert await cluster.owner_of(prefix) is not owner


async def test_a_worker_that_starts_first_waits_for_redis(
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


def test_many_nodes_are_named_in_one_url(base_settings: Settings) -> None:
    settings = base_settings.changed({"redis_url": SecretStr("rediss://me:a@b@one:1,two:2/0")})
    assert list_nodes(settings) == ["rediss://me:a@b@one:1/0", "rediss://me:a@b@two:2/0"]


def test_arq_and_redis_py_still_have_what_a_cluster_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (arq.worker, arq.jobs):
        monkeypatch.setattr(module, "abort_jobs_ss", vars(module)["abort_jobs_ss"])
    move_arq_to_slot("{rag}")
    assert {vars(module)["abort_jobs_ss"] for module in (arq.worker, arq.jobs)} == {"{rag}:abort"}
    assert "tr.zrem(abort_jobs_ss, job_id)" in inspect.getsource(arq.worker.Worker.finish_job)
    assert inspect.iscoroutinefunction(Connection._connect)


@pytest.fixture
def impatient(cluster: RedisCluster, prefix: str, settings: Settings, scripted_models: ScriptedModels) -> Settings:
    """Settings under which a recovery is seen in seconds."""
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


async def check_nothing_lost_or_doubled(resources: Resources, documents: list[Document]) -> None:
    async with resources.pool.acquire() as conn:
        jobs = await conn.fetch("SELECT status, attempts FROM jobs")
        counts = await conn.fetch(
            "SELECT document_id, count(*) AS found, count(DISTINCT ordinal) AS different"
            " FROM chunk_text GROUP BY document_id"
        )
    assert [(row["status"], row["attempts"]) for row in jobs] == [(JobStatus.DONE, 1)] * len(documents)
    assert {row["document_id"] for row in counts} == {document.id for document in documents}
    for document in documents:
        found = next(row for row in counts if row["document_id"] == document.id)
        assert found["found"] == found["different"] == (await reload(resources, document)).chunk_count


async def check_keys(cluster: RedisCluster, owner: Node, prefix: str, expected: set[str]) -> None:
    """Every key of the service begins with the prefix, or with arq's word and then the prefix, and is in its slot."""
    keys = {key for key in await owner.keys() if prefix in key}
    kinds = {key[: key.index(prefix)] for key in keys}
    assert kinds == expected
    assert {slot_of(key) for key in keys} == {slot_of(prefix)}
    stray = {key for node in cluster.nodes for key in await node.keys()} - keys
    assert not {key for key in stray if key.startswith("arq:") or "abort" in key}


async def test_a_killed_owner_loses_no_document(
    cluster: RedisCluster, owner: Node, impatient: Settings, workspace: Workspace, scripted_models: ScriptedModels
) -> None:
    prefix, settings = impatient.stores.queue_prefix, impatient.changed({"redis_url": SecretStr(cluster.url(owner))})
    async with open_resources(settings, pool_size=8) as resources, working(settings) as worker:
        documents = await accept_many(resources, workspace, ["first"])
        await until(lambda: are_ready(resources, documents), timeout_s=RECOVERY_S)

        async def is_empty() -> bool:
            return bool(await command(resources.redis, "ZCARD", f"{prefix}:ingestion") == 0)

        # arq's own end of a job touches arq:abort too, which only works in one slot.
        await until(is_empty)
        first, second = Pause(), Pause()
        scripted_models.embeddings.script(first, second)
        documents += await accept_many(resources, workspace, ["running", "running too", "queued"])
        await asyncio.wait_for(asyncio.gather(first.reached.wait(), second.reached.wait()), RECOVERY_S)
        await check_keys(cluster, owner, prefix, {"", "arq:job:", "arq:in-progress:", "arq:retry:"})
        await owner.kill()
        documents += await accept_many(resources, workspace, ["accepted without redis", "and another"])
        first.resumed.set()
        second.resumed.set()
        await until(lambda: are_ready(resources, documents), timeout_s=RECOVERY_S)
        await check_nothing_lost_or_doubled(resources, documents)
        assert await cluster.owner_of(prefix) is not owner
        assert worker.returncode is None


@pytest.mark.chaos
async def test_owners_that_are_killed_one_after_the_other_lose_no_document(
    cluster: RedisCluster, impatient: Settings, workspace: Workspace
) -> None:
    documents: list[Document] = []
    async with AsyncExitStack() as stack:
        resources = await stack.enter_async_context(open_resources(impatient, pool_size=8))
        workers = [await stack.enter_async_context(working(impatient)) for _ in range(2)]
        for number in range(6):
            documents += await accept_many(resources, workspace, [f"{number} before {n}" for n in range(8)])
            owner = await cluster.owner_of(impatient.stores.queue_prefix)
            await owner.kill()
            documents += await accept_many(resources, workspace, [f"{number} without {n}" for n in range(4)])
            assert await cluster.owner_of(impatient.stores.queue_prefix) is not owner
            await owner.start()
            await until(cluster.is_whole, timeout_s=redis_cluster.FAILOVER_S, what="the cluster")
        await until(lambda: are_ready(resources, documents), timeout_s=2 * RECOVERY_S)
        await check_nothing_lost_or_doubled(resources, documents)
        assert [worker.returncode for worker in workers] == [None, None]

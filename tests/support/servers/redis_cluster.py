"""A Redis Cluster on loopback: three masters, each with a replica, that a test can kill and bring back."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import tempfile
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis.asyncio
from redis.crc import key_slot
from redis.exceptions import RedisError

from ragsvc.devstack import ports
from ragsvc.devstack.parts.redis import find_server
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOST = "127.0.0.1"
SLOTS = 16384
MASTERS = 3
# The nodes speak to one another on their port plus this.
BUS_OFFSET = 10_000
NODE_TIMEOUT_MS = 1000
PASSWORD = "secret"
FAILOVER_S = 30.0


class Node:
    """One server, with a folder that outlives its kills."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.client: Any = redis.asyncio.Redis(host=HOST, port=port, password=PASSWORD, socket_timeout=0.5)
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        self._folder.mkdir(exist_ok=True)
        options = {
            "port": self.port,
            "bind": HOST,
            "dir": self._folder,
            "save": "",
            "requirepass": PASSWORD,
            "masterauth": PASSWORD,
            "cluster-enabled": "yes",
            "cluster-node-timeout": NODE_TIMEOUT_MS,
            "cluster-replica-validity-factor": 0,
            "repl-diskless-sync": "yes",
            "repl-diskless-sync-delay": 0,
        }
        self._process = await asyncio.create_subprocess_exec(
            str(find_server()),
            *(word for name, value in options.items() for word in (f"--{name}", str(value))),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        await until(self.answers, what="a cluster node")

    async def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def freeze(self) -> None:
        """Have it keep every connection and answer nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on, if it was frozen."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def close(self) -> None:
        """End it for good."""
        await self.client.aclose()
        await self.kill()

    async def answers(self) -> bool:
        """Tell whether it answers."""
        with suppress(RedisError, OSError):
            return bool(await self.client.ping())
        return False

    async def call(self, *words: object) -> Any:
        """Return its reply; None while it is away."""
        with suppress(RedisError, OSError):
            return await self.client.execute_command(*words)
        return None

    async def keys(self) -> set[str]:
        """Return all its keys."""
        return {key.decode() for key in await self.client.execute_command("KEYS", "*")}


class RedisCluster:
    """Three masters and their replicas."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self._replica_of = dict(zip(nodes[MASTERS:], nodes[:MASTERS], strict=True))

    def url(self, *nodes: Node) -> str:
        """Return a REDIS_URL that names these nodes."""
        return f"redis://:{PASSWORD}@{','.join(f'{HOST}:{node.port}' for node in nodes)}/0"

    async def form(self) -> None:
        """Make a cluster of the servers."""
        await asyncio.gather(*(node.start() for node in self.nodes))
        first, masters = self.nodes[0], self.nodes[:MASTERS]
        for number, node in enumerate(self.nodes):
            # Different from the beginning, or the nodes quarrel about them for seconds.
            await node.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < MASTERS:
                slots = range(SLOTS * number // MASTERS, SLOTS * (number + 1) // MASTERS)
                await node.client.execute_command("CLUSTER", "ADDSLOTS", *slots)
            if node is not first:
                await first.client.execute_command("CLUSTER", "MEET", HOST, node.port)
        ids = {node: (await node.client.execute_command("CLUSTER", "MYID")).decode() for node in masters}
        for node in self.nodes[MASTERS:]:
            await until(lambda node=node: node.call("CLUSTER", "REPLICATE", ids[self._replica_of[node]]))  # type: ignore[misc]
        await until(self.is_whole, timeout_s=FAILOVER_S, what="the cluster")

    async def is_whole(self) -> bool:
        """Tell whether every node that is up sees all slots served, and every replica has its master's data."""
        for node in self.nodes:
            info = await node.call("INFO", "replication")
            if info is None or (info["role"] == "slave" and info["master_link_status"] != "up"):
                return False
            state = await node.call("CLUSTER INFO")
            if state is None or state["cluster_state"] != "ok":
                return False
            known = await node.call("CLUSTER", "SLOTS")
            if known is None or len(known) < MASTERS:
                return False
        roles = [(await node.call("INFO", "replication"))["role"] for node in self.nodes]
        return roles.count("slave") == MASTERS

    async def owner_of(self, key: str) -> Node:
        """Return the master that serves the key now."""

        async def find() -> Node | None:
            for node in self.nodes:
                info = await node.call("INFO", "replication")
                if info is not None and info["role"] == "master" and await self._serves(node, key):
                    return node
            return None

        return await until(find, timeout_s=FAILOVER_S, what="an owner of the key's slot")

    async def _serves(self, node: Node, key: str) -> bool:
        state = await node.call("CLUSTER INFO")
        if state is None or state["cluster_state"] != "ok":
            return False
        try:
            await node.client.exists(key)
        except (RedisError, OSError):
            return False
        return True


def slot_of(key: str) -> int:
    """Return the slot that Redis puts the key into."""
    return key_slot(key.encode())


@asynccontextmanager
async def serving() -> AsyncIterator[RedisCluster]:
    """Yield a cluster that works, and end it."""
    with tempfile.TemporaryDirectory(prefix="ragsvc-cluster-") as folder:
        cluster = RedisCluster([Node(Path(folder) / str(port), port) for port in _free_ports(2 * MASTERS)])
        try:
            await cluster.form()
            yield cluster
        finally:
            await asyncio.gather(*(node.close() for node in cluster.nodes))


def _free_ports(count: int) -> list[int]:
    """Return ports below those that other servers of the tests take; their bus ports are kept from the others."""
    found: list[int] = []
    for port in random.sample(range(ports.LOWEST - BUS_OFFSET, ports.LOWEST), BUS_OFFSET):
        if len(found) < count and ports._reserve(port) and ports._reserve(port + BUS_OFFSET):
            found.append(port)
    return found

"""A Redis Cluster on loopback: three masters, each with a replica, which tests can kill and restart."""

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
# The cluster bus of a node listens on the node's port plus this offset.
BUS_OFFSET = 10_000
NODE_TIMEOUT_MS = 1000
PASSWORD = "secret"
FAILOVER_S = 30.0


class Node:
    """One server, whose data folder survives a kill."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.client: Any = redis.asyncio.Redis(host=HOST, port=port, password=PASSWORD, socket_timeout=0.5)
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the server and wait until it replies."""
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
        await until(self.is_available, what="a cluster node")

    async def kill(self) -> None:
        """Kill the server."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def freeze(self) -> None:
        """Stop the process, so that connections remain open without replies."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume the process if it is frozen."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def close(self) -> None:
        """Close the client and kill the server."""
        await self.client.aclose()
        await self.kill()

    async def is_available(self) -> bool:
        """Return whether the server replies."""
        with suppress(RedisError, OSError):
            return bool(await self.client.ping())
        return False

    async def call(self, *words: object) -> Any:
        """Return the reply to a command, or None if the server is unavailable."""
        with suppress(RedisError, OSError):
            return await self.client.execute_command(*words)
        return None

    async def keys(self) -> set[str]:
        """Return all keys of the server."""
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
        """Start the servers and form a cluster."""
        await asyncio.gather(*(node.start() for node in self.nodes))
        first, masters = self.nodes[0], self.nodes[:MASTERS]
        for number, node in enumerate(self.nodes):
            # Distinct from the start, because resolving conflicting epochs takes seconds.
            await node.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < MASTERS:
                slots = range(SLOTS * number // MASTERS, SLOTS * (number + 1) // MASTERS)
                await node.client.execute_command("CLUSTER", "ADDSLOTS", *slots)
            if node is not first:
                await first.client.execute_command("CLUSTER", "MEET", HOST, node.port)
        ids = {node: (await node.client.execute_command("CLUSTER", "MYID")).decode() for node in masters}
        for node in self.nodes[MASTERS:]:
            await until(lambda node=node: node.call("CLUSTER", "REPLICATE", ids[self._replica_of[node]]))  # type: ignore[misc]
        await until(self.is_healthy, timeout_s=FAILOVER_S, what="the cluster")

    async def is_healthy(self) -> bool:
        """Return whether every node runs and sees all slots served, and every replica is in sync."""
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
        """Return the master that currently serves the key."""

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
    """Return the slot of a key."""
    return key_slot(key.encode())


@asynccontextmanager
async def serving() -> AsyncIterator[RedisCluster]:
    """Yield a healthy cluster, and kill it afterwards."""
    with tempfile.TemporaryDirectory(prefix="ragsvc-cluster-") as folder:
        cluster = RedisCluster([Node(Path(folder) / str(port), port) for port in _free_ports(2 * MASTERS)])
        try:
            await cluster.form()
            yield cluster
        finally:
            await asyncio.gather(*(node.close() for node in cluster.nodes))


def _free_ports(count: int) -> list[int]:
    """Return ports below the range of the other test servers, with the corresponding bus ports reserved."""
    found: list[int] = []
    for port in random.sample(range(ports.LOWEST - BUS_OFFSET, ports.LOWEST), BUS_OFFSET):
        if len(found) < count and ports._reserve(port) and ports._reserve(port + BUS_OFFSET):
            found.append(port)
    return found

"""Redis Cluster for a service whose keys share one hash tag: connections to the node that owns the tag's slot."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import arq.jobs
import arq.worker
import structlog
from redis.asyncio.cluster import ClusterParser
from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

if TYPE_CHECKING:
    from collections.abc import Sequence

Address = tuple[str, int]

# A node that answers so is not, or not yet, or no longer, the one that serves the slot.
# (MOVED is a kind of ASK to redis-py.)
NOT_THE_OWNER = (AskError, ClusterDownError, MasterDownError, ReadOnlyError, TryAgainError)
REACH_TIMEOUT_S = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Shard:
    """Who serves a range of slots: the owner, and the replicas that may follow it."""

    first_slot: int
    last_slot: int
    nodes: tuple[Address, ...]


class SlotOwner:
    """Knows which node owns the prefix's slot, and asks the cluster when that is in doubt.

    Every node of the cluster may be asked, so the ones in REDIS_URL need not be there later.
    """

    def __init__(self, seeds: Sequence[Address], *, prefix: str, is_tls: bool, credentials: dict[str, Any]) -> None:
        self._slot = key_slot(prefix.encode())
        self._seeds = frozenset(seeds)
        self._nodes = list(dict.fromkeys(seeds))
        self._connection_class = SSLConnection if is_tls else Connection
        self._credentials = credentials
        self._owner: Address | None = None
        self._announced: Address | None = None
        self._lock = asyncio.Lock()

    async def find(self) -> Address:
        """Return the owner's host and port.

        Raises:
            ConnectionError: redis-py's; no node answers, or nobody owns the slot.
        """
        async with self._lock:
            if self._owner is None:
                self._owner = await self._ask_around()
                self._announce(self._owner)
            return self._owner

    def doubt(self, owner: Address) -> None:
        """Have the cluster asked again before the next connection; this node is asked last."""
        if self._owner == owner:
            self._owner = None
        self._ask_last(owner)

    def _ask_last(self, node: Address) -> None:
        if node in self._nodes:
            self._nodes.remove(node)
            self._nodes.append(node)

    def _announce(self, owner: Address) -> None:
        if owner != self._announced:
            log.info("redis_slot_owner_found", host=owner[0], port=owner[1], slot=self._slot)
            self._announced = owner

    async def _ask_around(self) -> Address:
        for node in tuple(self._nodes):
            try:
                async with asyncio.timeout(REACH_TIMEOUT_S):
                    shards = await self._ask(node)
            except (RedisError, OSError, TimeoutError) as error:
                log.info("redis_node_unavailable", host=node[0], port=node[1], error=error)
                self._ask_last(node)
                continue
            except asyncio.CancelledError:
                # Whoever asked has less patience; the next one is not to wait for the same silent node.
                self._ask_last(node)
                raise
            self._remember(shards)
            owners = [shard.nodes[0] for shard in shards if shard.first_slot <= self._slot <= shard.last_slot]
            if owners:
                return owners[0]
        raise RedisConnectionError(f"No node of the Redis Cluster tells who owns slot {self._slot}")

    def _remember(self, shards: Sequence[Shard]) -> None:
        found = [node for shard in shards for node in shard.nodes]
        known = self._seeds.union(found)
        self._nodes = list(dict.fromkeys([*(node for node in self._nodes if node in known), *found]))

    async def _ask(self, node: Address) -> list[Shard]:
        connection = self._connection_class(host=node[0], port=node[1], **self._credentials)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await connection.send_command("CLUSTER SLOTS")
            reply = await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)
        return [Shard(first, last, tuple(_read_node(told, node) for told in nodes)) for first, last, *nodes in reply]


class OwnerConnection(Connection):
    """A connection to the slot's owner, wherever that is when it connects."""

    def __init__(self, *, owner: SlotOwner, **kwargs: Any) -> None:  # noqa: ANN401 - redis-py's own signature
        super().__init__(**kwargs)
        self._owner = owner

    async def _connect(self) -> None:
        self.host, self.port = await self._owner.find()
        try:
            await super()._connect()  # type: ignore[no-untyped-call]
        except BaseException:
            self._owner.doubt((self.host, self.port))
            raise

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - redis-py's own signature
        """Return the reply; a node that does not serve the slot counts as away, so the command is tried elsewhere.

        Nothing was done by a command that is answered so.
        """
        try:
            return await super().read_response(*args, **kwargs)
        except NOT_THE_OWNER as error:
            self._owner.doubt((self.host, self.port))
            await self.disconnect(nowait=True)
            raise RedisConnectionError(f"The slot is served elsewhere: {error}") from error
        except ResponseError:
            raise
        except BaseException:
            # A cancel too: mostly it is the caller's own time-out, and the node may hang while another took over.
            self._owner.doubt((self.host, self.port))
            raise


class TlsOwnerConnection(OwnerConnection, SSLConnection):
    """The same with TLS."""


def open_cluster_pool(
    seeds: Sequence[Address], *, prefix: str, is_tls: bool, credentials: dict[str, Any], options: dict[str, Any]
) -> ConnectionPool:
    """Return a pool whose connections all lead to the owner of the prefix's slot."""
    owner = SlotOwner(seeds, prefix=prefix, is_tls=is_tls, credentials=credentials)
    connection_class = TlsOwnerConnection if is_tls else OwnerConnection
    return ConnectionPool(
        connection_class=connection_class, parser_class=ClusterParser, owner=owner, **credentials, **options
    )


def keep_arq_in_one_slot(prefix: str) -> None:
    """Give arq's one key that names no job the prefix too: it is written to together with the others (arq#358)."""
    for module in (arq.worker, arq.jobs):
        module.abort_jobs_ss = f"{prefix}:abort"  # type: ignore[attr-defined]


def _read_node(told: Sequence[Any], asked: Address) -> Address:
    # A node that does not know its own name means the one it was asked by.
    host = told[0].decode() if told[0] else asked[0]
    return host, int(told[1])

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

# Errors of a node that does not serve the slot (redis-py's MovedError is a subclass of AskError).
NOT_THE_OWNER = (AskError, ClusterDownError, MasterDownError, ReadOnlyError, TryAgainError)
QUERY_TIMEOUT_S = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Shard:
    """The nodes that serve a range of slots: the owner first, then its replicas."""

    first_slot: int
    last_slot: int
    nodes: tuple[Address, ...]


class SlotOwner:
    """Finds the node that owns the prefix's slot, and looks it up again after an error.

    Any known node of the cluster is queried, so the nodes in REDIS_URL need not exist later.
    """

    def __init__(self, seeds: Sequence[Address], *, prefix: str, is_tls: bool, credentials: dict[str, Any]) -> None:
        self._slot = key_slot(prefix.encode())
        self._seeds = frozenset(seeds)
        self._nodes = list(dict.fromkeys(seeds))
        self._connection_class = SSLConnection if is_tls else Connection
        self._credentials = credentials
        self._owner: Address | None = None
        self._logged_owner: Address | None = None
        self._lock = asyncio.Lock()

    async def find(self) -> Address:
        """Return the owner's host and port.

        Raises:
            redis.exceptions.ConnectionError: no node replied, or no node owns the slot.
        """
        async with self._lock:
            if self._owner is None:
                self._owner = await self._look_up()
                self._log_owner(self._owner)
            return self._owner

    def invalidate(self, owner: Address) -> None:
        """Look the owner up again before the next connection, and query this node last."""
        if self._owner == owner:
            self._owner = None
        self._query_last(owner)

    def _query_last(self, node: Address) -> None:
        if node in self._nodes:
            self._nodes.remove(node)
            self._nodes.append(node)

    def _log_owner(self, owner: Address) -> None:
        if owner != self._logged_owner:
            log.info("redis_slot_owner_found", host=owner[0], port=owner[1], slot=self._slot)
            self._logged_owner = owner

    async def _look_up(self) -> Address:
        for node in tuple(self._nodes):
            try:
                async with asyncio.timeout(QUERY_TIMEOUT_S):
                    shards = await self._query(node)
            except (RedisError, OSError, TimeoutError) as error:
                log.info("redis_node_unavailable", host=node[0], port=node[1], error=error)
                self._query_last(node)
                continue
            except asyncio.CancelledError:
                # The caller timed out first; the next lookup must not wait for the same unresponsive node.
                self._query_last(node)
                raise
            self._update_nodes(shards)
            owners = [shard.nodes[0] for shard in shards if shard.first_slot <= self._slot <= shard.last_slot]
            if owners:
                return owners[0]
        raise RedisConnectionError(f"No node of the Redis Cluster reports an owner of slot {self._slot}")

    def _update_nodes(self, shards: Sequence[Shard]) -> None:
        found = [node for shard in shards for node in shard.nodes]
        known = self._seeds.union(found)
        self._nodes = list(dict.fromkeys([*(node for node in self._nodes if node in known), *found]))

    async def _query(self, node: Address) -> list[Shard]:
        connection = self._connection_class(host=node[0], port=node[1], **self._credentials)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await connection.send_command("CLUSTER SLOTS")
            reply = await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)
        return [Shard(first, last, tuple(_read_node(entry, node) for entry in nodes)) for first, last, *nodes in reply]


class OwnerConnection(Connection):
    """A connection to the node that owns the slot at the time of connecting."""

    def __init__(self, *, owner: SlotOwner, **kwargs: Any) -> None:  # noqa: ANN401 - redis-py's own signature
        super().__init__(**kwargs)
        self._owner = owner

    async def _connect(self) -> None:
        self.host, self.port = await self._owner.find()
        try:
            await super()._connect()  # type: ignore[no-untyped-call]
        except BaseException:
            self._owner.invalidate((self.host, self.port))
            raise

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - redis-py's own signature
        """Return the reply; treat a node that does not serve the slot as disconnected, so the command is retried.

        Such a node has not executed the command, so the retry is safe.
        """
        try:
            return await super().read_response(*args, **kwargs)
        except NOT_THE_OWNER as error:
            self._owner.invalidate((self.host, self.port))
            await self.disconnect(nowait=True)
            raise RedisConnectionError(f"Another node serves the slot: {error}") from error
        except ResponseError:
            raise
        except BaseException:
            # Cancellation counts too, because it is usually the caller's timeout, and the node may hang after a
            # failover.
            self._owner.invalidate((self.host, self.port))
            raise


class TlsOwnerConnection(OwnerConnection, SSLConnection):
    """An OwnerConnection with TLS."""


def open_cluster_pool(
    seeds: Sequence[Address], *, prefix: str, is_tls: bool, credentials: dict[str, Any], options: dict[str, Any]
) -> ConnectionPool:
    """Return a pool of connections to the owner of the prefix's slot."""
    owner = SlotOwner(seeds, prefix=prefix, is_tls=is_tls, credentials=credentials)
    connection_class = TlsOwnerConnection if is_tls else OwnerConnection
    return ConnectionPool(
        connection_class=connection_class, parser_class=ClusterParser, owner=owner, **credentials, **options
    )


def move_arq_to_slot(prefix: str) -> None:
    """Add the prefix to arq's one global key, which arq writes in the same transaction as the others (arq#358)."""
    for module in (arq.worker, arq.jobs):
        module.abort_jobs_ss = f"{prefix}:abort"  # type: ignore[attr-defined]


def _read_node(entry: Sequence[Any], queried: Address) -> Address:
    # A node that does not know its own host name reports an empty one.
    host = entry[0].decode() if entry[0] else queried[0]
    return host, int(entry[1])

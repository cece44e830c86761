"""Connections to Redis: JSON bodies, bounded waits and reconnection."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson
import structlog
from arq.connections import ArqRedis, RedisSettings
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    ClusterDownError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ragsvc.queue.cluster import open_cluster_pool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ragsvc.domain.jobs import Queue
    from ragsvc.settings.settings import Settings

# A refused connection can surface as an OSError that redis-py has not wrapped; a worker would exit on it.
RECONNECT_ON = [RedisConnectionError, RedisTimeoutError, OSError]
# The errors to catch in code that can work without Redis.
REDIS_TROUBLE = (RedisError, OSError, TimeoutError)
REDIS_AWAY = (
    RedisConnectionError,
    RedisTimeoutError,
    ReadOnlyError,
    OutOfMemoryError,
    ClusterDownError,
    MasterDownError,
    TryAgainError,
)
# arq expires a job's body after a day by default, but a backlog can be older.
BODY_TTL_MS = 30 * 24 * 3600 * 1000

# Redis counts as unavailable when it has not replied for this long.
READ_TIMEOUT_S = 10.0
# How often, and how many times, a starting worker tries to reach Redis.
CONNECT_ATTEMPTS = 30
CONNECT_INTERVAL_S = 1.0

RedisConnection = ArqRedis

log = structlog.get_logger(__name__)


def redis_settings(settings: Settings) -> RedisSettings:
    """Return arq's own connection settings; our workers use `open_worker_redis`, which also has a read timeout."""
    parsed = RedisSettings.from_dsn(list_nodes(settings)[0])
    parsed.retry = _worker_retry()
    parsed.retry_on_error = [*RECONNECT_ON]
    parsed.conn_retries = CONNECT_ATTEMPTS
    return parsed


def open_redis(settings: Settings) -> RedisConnection:
    """Return a client that connects on first use, so the API starts even if Redis is unavailable."""
    return _open(settings, Retry(ExponentialBackoff(cap=0.2, base=0.02), 2))


def open_worker_redis(settings: Settings) -> RedisConnection:
    """Return the client of a worker; one opened by arq would wait forever for a Redis that does not reply."""
    return _open(settings, _worker_retry())


async def wait_for_redis(redis: RedisConnection) -> None:
    """Return once Redis replies; arq itself waits only for a client that it opened.

    Raises:
        RedisError, OSError: Redis did not reply within half a minute.
    """
    for _ in range(CONNECT_ATTEMPTS):
        try:
            await redis.ping()
        except REDIS_TROUBLE as error:
            log.warning("redis_unavailable", error=error)
            await asyncio.sleep(CONNECT_INTERVAL_S)
        else:
            return
    await redis.ping()


def list_nodes(settings: Settings) -> list[str]:
    """Return a URL for each node in REDIS_URL, which can list several: `redis://:password@one:6379,two:6379/0`."""
    url = urlsplit(settings.stores.redis_url.get_secret_value())
    user, at, hosts = url.netloc.rpartition("@")
    return [url._replace(netloc=f"{user}{at}{host}").geturl() for host in hosts.split(",")]


def _worker_retry() -> Retry:
    return Retry(ExponentialBackoff(cap=1.0, base=0.05), 6)


def _open(settings: Settings, retry: Retry) -> RedisConnection:
    nodes = [RedisSettings.from_dsn(url) for url in list_nodes(settings)]
    parsed = nodes[0]
    credentials: dict[str, Any] = {"username": parsed.username, "password": parsed.password}
    options: dict[str, Any] = {
        "encoding": "utf8",
        "socket_connect_timeout": 1.0,
        "socket_timeout": READ_TIMEOUT_S,
        "retry": retry,
        "retry_on_error": [*RECONNECT_ON],
    }
    if settings.stores.redis_cluster:
        redis: Any = ArqRedis.from_pool(
            open_cluster_pool(
                [(str(node.host), node.port) for node in nodes],
                prefix=settings.stores.queue_prefix,
                is_tls=parsed.ssl,
                credentials=credentials,
                options=options,
            )
        )
    else:
        redis = ArqRedis(
            host=parsed.host,
            port=parsed.port,
            unix_socket_path=parsed.unix_socket_path,
            db=parsed.database,
            ssl=parsed.ssl,
            **credentials,
            **options,
        )
    redis.job_serializer = serialize
    redis.job_deserializer = deserialize
    redis.expires_extra_ms = BODY_TTL_MS
    opened: RedisConnection = redis
    return opened


def serialize(body: dict[str, Any]) -> bytes:
    """Return arq's job body as JSON; unpickling would let anyone who can write to Redis run code here.

    An exception, which arq stores as the result of a job that it cannot run, becomes its text.
    """
    return orjson.dumps(body, default=str)


def deserialize(body: bytes) -> dict[str, Any]:
    """Return the body that `serialize` wrote."""
    parsed: dict[str, Any] = orjson.loads(body)
    return parsed


def queue_name(settings: Settings, queue: Queue) -> str:
    """Return the key of a queue's sorted set."""
    return f"{settings.stores.queue_prefix}:{queue}"


def wake_channel(queue_key: str) -> str:
    """Return the pub/sub channel that wakes a queue's workers."""
    return f"{queue_key}:wake"


def is_redis_away(error: BaseException) -> bool:
    """Return whether Redis is temporarily unusable: unreachable, full, read-only or failing over."""
    return isinstance(error, REDIS_AWAY)


@contextmanager
def preserving_cancels() -> Iterator[None]:
    """Raise a cancellation that redis-py swallowed in the body; `ragsvc.tasks.cancel_and_wait` explains the bug."""
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    yield
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError

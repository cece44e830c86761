"""How this service speaks to Redis: JSON bodies, bounded waits, and a connection that comes back."""

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

# A refused connection is an OSError before redis-py has wrapped it, and without it here a worker would exit.
RECONNECT_ON = [RedisConnectionError, RedisTimeoutError, OSError]
# What a caller that can do without Redis catches.
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
# arq drops a body after a day by default, and a backlog may be older.
BODY_TTL_MS = 30 * 24 * 3600 * 1000

CANCEL_AGAIN_S = 0.1
# A Redis that keeps silent for so long counts as away.
SILENCE_S = 10.0
# How long a worker waits for Redis when it starts.
FIRST_TRIES = 30
FIRST_TRY_EVERY_S = 1.0

RedisConnection = ArqRedis

log = structlog.get_logger(__name__)


def redis_settings(settings: Settings) -> RedisSettings:
    """Return how arq connects by itself; our workers are given `open_worker_redis`, which also bounds silence."""
    parsed = RedisSettings.from_dsn(list_nodes(settings)[0])
    parsed.retry = _patient()
    parsed.retry_on_error = [*RECONNECT_ON]
    parsed.conn_retries = FIRST_TRIES
    return parsed


def open_redis(settings: Settings) -> RedisConnection:
    """Return a client that connects when it is first used: the API also starts while Redis is away."""
    return _open(settings, Retry(ExponentialBackoff(cap=0.2, base=0.02), 2))


def open_worker_redis(settings: Settings) -> RedisConnection:
    """Return the client of a worker: one that arq opened would wait for ever on a Redis that keeps silent."""
    return _open(settings, _patient())


async def wait_for_redis(redis: RedisConnection) -> None:
    """Return once Redis answers, as arq waits with a client that it opens itself.

    Raises:
        RedisError, OSError: it did not within half a minute.
    """
    for _ in range(FIRST_TRIES):
        try:
            await redis.ping()
        except REDIS_TROUBLE as error:
            log.warning("redis_unavailable", error=error)
            await asyncio.sleep(FIRST_TRY_EVERY_S)
        else:
            return
    await redis.ping()


def list_nodes(settings: Settings) -> list[str]:
    """Return a URL for each of the nodes that REDIS_URL names, as in `redis://:password@one:6379,two:6379/0`."""
    url = urlsplit(settings.stores.redis_url.get_secret_value())
    user, at, hosts = url.netloc.rpartition("@")
    return [url._replace(netloc=f"{user}{at}{host}").geturl() for host in hosts.split(",")]


def _patient() -> Retry:
    return Retry(ExponentialBackoff(cap=1.0, base=0.05), 6)


def _open(settings: Settings, retry: Retry) -> RedisConnection:
    nodes = [RedisSettings.from_dsn(url) for url in list_nodes(settings)]
    parsed = nodes[0]
    credentials: dict[str, Any] = {"username": parsed.username, "password": parsed.password}
    options: dict[str, Any] = {
        "encoding": "utf8",
        "socket_connect_timeout": 1.0,
        "socket_timeout": SILENCE_S,
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
    """Return arq's job body as JSON: with pickle, whoever writes Redis would run code here.

    A result that is an exception (arq writes one for a job it cannot run) becomes its text.
    """
    return orjson.dumps(body, default=str)


def deserialize(body: bytes) -> dict[str, Any]:
    """Return what `serialize` wrote."""
    parsed: dict[str, Any] = orjson.loads(body)
    return parsed


def queue_name(settings: Settings, queue: Queue) -> str:
    """Return the key of a queue's sorted set."""
    return f"{settings.stores.queue_prefix}:{queue}"


def wake_channel(queue_key: str) -> str:
    """Return the channel on which a queue's workers hear of a new job."""
    return f"{queue_key}:wake"


def is_redis_away(error: BaseException) -> bool:
    """Tell whether Redis cannot be used for now: it is out of reach, full, read-only or failing over."""
    return isinstance(error, REDIS_AWAY)


@contextmanager
def remembering_cancels() -> Iterator[None]:
    """Raise a cancel that redis-py forgot meanwhile, for the reason that `ragsvc.tasks.cancel_and_wait` explains."""
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    yield
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError

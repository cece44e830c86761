"""How this service speaks to Redis: JSON bodies, bounded waits, and a connection that comes back."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson
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

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ragsvc.models.jobs import Queue
    from ragsvc.settings import Settings

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

RedisConnection = ArqRedis


def redis_settings(settings: Settings) -> RedisSettings:
    """Return how an arq worker connects."""
    parsed = RedisSettings.from_dsn(settings.redis_url.get_secret_value())
    parsed.retry = Retry(ExponentialBackoff(cap=1.0, base=0.05), 6)
    parsed.retry_on_error = [*RECONNECT_ON]
    parsed.conn_retries = 30
    return parsed


def open_redis(settings: Settings) -> RedisConnection:
    """Return a client that connects when it is first used: the API also starts while Redis is away."""
    parsed = redis_settings(settings)
    return ArqRedis(
        host=parsed.host,
        port=parsed.port,
        unix_socket_path=parsed.unix_socket_path,
        db=parsed.database,
        username=parsed.username,
        password=parsed.password,
        ssl=parsed.ssl,
        encoding="utf8",
        socket_connect_timeout=1.0,
        socket_timeout=10.0,
        retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), 2),
        retry_on_error=[*RECONNECT_ON],
        job_serializer=serialize,
        job_deserializer=deserialize,
        expires_extra_ms=BODY_TTL_MS,
    )


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
    return f"{settings.queue_prefix}:{queue}"


def wake_channel(queue_key: str) -> str:
    """Return the channel on which a queue's workers hear of a new job."""
    return f"{queue_key}:wake"


def is_redis_away(error: BaseException) -> bool:
    """Tell whether Redis cannot be used for now: it is out of reach, full, read-only or failing over."""
    return isinstance(error, REDIS_AWAY)


@contextmanager
def remembering_cancels() -> Iterator[None]:
    """Raise a cancel that redis-py forgot meanwhile, for the reason that `cancel_for_good` tells."""
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    yield
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError


async def cancel_for_good(task: asyncio.Task[None]) -> None:
    """Cancel a task that speaks to Redis, and return once it has ended.

    One cancel is not enough: redis-py sends under `asyncio.wait_for`, which up to Python 3.11 forgets a cancel that
    comes just as the sending ends (python/cpython#86296).
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_AGAIN_S)

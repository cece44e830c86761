"""Checks that the Redis server is configured for a queue, using only INFO, which managed servers also allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ragsvc.queue.connection import RedisConnection

MIN_REDIS = (6, 2)


async def find_redis_faults(redis: RedisConnection) -> list[str]:
    """Return the faults of the server, each as a sentence that says how to fix it.

    Raises:
        RedisError, OSError: Redis is unavailable.
    """
    server: dict[str, Any] = await redis.info("server")
    memory: dict[str, Any] = await redis.info("memory")
    persistence: dict[str, Any] = await redis.info("persistence")
    return list(_find_faults(server | memory | persistence))


def _find_faults(info: dict[str, Any]) -> Iterator[str]:
    version = str(info.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < MIN_REDIS:
        wanted = ".".join(map(str, MIN_REDIS))
        yield f"Redis {version} is too old: ragsvc needs {wanted} or newer"
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        yield f"Redis can evict notifications and events (maxmemory-policy is {policy}): set it to noeviction"
    if not int(info.get("aof_enabled", 1)):
        yield "Redis loses notifications when it restarts (no AOF), which delays jobs: set appendonly yes"

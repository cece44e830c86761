"""Whether the Redis server is set up as a queue needs it. Asked by INFO, which managed servers allow too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ragsvc.queue.connection import RedisConnection

MIN_REDIS = (6, 2)


async def find_redis_faults(redis: RedisConnection) -> list[str]:
    """Return what is wrong with the server, each as a sentence with the way out; raises what Redis raises."""
    server: dict[str, Any] = await redis.info("server")
    memory: dict[str, Any] = await redis.info("memory")
    persistence: dict[str, Any] = await redis.info("persistence")
    return list(_judge(server | memory | persistence))


def _judge(info: dict[str, Any]) -> Iterator[str]:
    version = str(info.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < MIN_REDIS:
        wanted = ".".join(map(str, MIN_REDIS))
        yield f"Redis {version} is too old: ragsvc needs {wanted} or newer"
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        yield f"Redis may evict rings and events (maxmemory-policy is {policy}): set it to noeviction"
    if not int(info.get("aof_enabled", 1)):
        yield "Redis forgets its rings when it restarts (no AOF), which delays jobs: set appendonly yes"

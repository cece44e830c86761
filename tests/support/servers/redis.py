"""Redis as tests look into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ragsvc.queue.connection import RedisConnection


async def command(redis: RedisConnection, *words: object) -> Any:
    """Return the answer to a command, untyped as redis-py has it."""
    return await redis.execute_command(*words)  # type: ignore[no-untyped-call]

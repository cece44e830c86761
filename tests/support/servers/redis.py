"""Untyped Redis commands for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ragsvc.queue.connection import RedisConnection


async def command(redis: RedisConnection, *words: object) -> Any:
    """Return the reply to a command, which redis-py does not type."""
    return await redis.execute_command(*words)  # type: ignore[no-untyped-call]

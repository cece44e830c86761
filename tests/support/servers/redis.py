"""Untyped Redis commands for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ragsvc.queue.connection import RedisConnection


async def command(redis: RedisConnection, *words: object) -> Any:
    """Send a command that redis-py does not type, and return its reply."""
    return await redis.execute_command(*words)  # type: ignore[no-untyped-call]

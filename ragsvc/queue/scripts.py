"""Lua scripts for callers that can do without Redis: they return a result quickly or None."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import structlog

from ragsvc.queue.connection import REDIS_TROUBLE, preserving_cancels

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ragsvc.queue.connection import RedisConnection

REDIS_TIMEOUT_S = 0.5
# Redis is not called for this long after a call that failed.
AWAY_S = 2.0

log = structlog.get_logger(__name__)


class Script:
    """A script on one key, whose caller can make the same decision without Redis."""

    def __init__(self, redis: RedisConnection, text: str, *, name: str) -> None:
        self._call: Callable[..., Awaitable[Any]] = redis.execute_command
        self._text = text
        self._name = name
        self._away_until = float("-inf")

    async def run(self, key: str, *arguments: int) -> Any | None:  # noqa: ANN401 - what the script returns
        """Return the script's result, or None if Redis is unavailable; Redis is then not called for AWAY_S."""
        if time.monotonic() < self._away_until:
            return None
        with preserving_cancels():
            return await self._eval(key, arguments)

    async def _eval(self, key: str, arguments: tuple[int, ...]) -> Any | None:  # noqa: ANN401 - what the script returns
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                return await self._call("EVAL", self._text, 1, key, *arguments)
        except REDIS_TROUBLE as error:
            self._away_until = time.monotonic() + AWAY_S
            log.warning("rate_limit_without_redis", limit=self._name, error=error)
            return None

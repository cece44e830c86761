"""Waiting for what another process or task does: look again and again, until a deadline."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Found = TypeVar("Found")
POLL_S = 0.02


async def until(look: Callable[[], Awaitable[Found] | Found], *, timeout_s: float = 10.0, what: str = "it") -> Found:
    """Return the first true thing that `look`, a function or a coroutine function, returns.

    Raises:
        AssertionError: nothing of the kind came in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if asyncio.iscoroutine(found) or asyncio.isfuture(found):
            found = await found
        if found:
            return found  # type: ignore[return-value]  # awaited above
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come about within {timeout_s:g} s")
        await asyncio.sleep(POLL_S)

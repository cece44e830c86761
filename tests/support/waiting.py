"""Waiting for what happens elsewhere: polled, with a deadline."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

POLL_S = 0.02


async def eventually(condition: Callable[[], Awaitable[bool]], *, within_s: float = 30.0) -> None:
    """Return once the condition holds.

    Raises:
        TimeoutError: it did not within `within_s` seconds.
    """
    deadline = time.monotonic() + within_s
    while not await condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_s} s: {getattr(condition, '__name__', condition)}")
        await asyncio.sleep(POLL_S)

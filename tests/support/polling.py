"""Waiting for what another process or task does: look again and again, until a deadline."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Found = TypeVar("Found")
POLL_S = 0.02


@overload
async def until(look: Callable[[], Awaitable[Found | None]], *, timeout_s: float = 10.0, what: str = "it") -> Found: ...


@overload
async def until(look: Callable[[], Found | None], *, timeout_s: float = 10.0, what: str = "it") -> Found: ...


async def until(look: Callable[[], Any], *, timeout_s: float = 10.0, what: str = "it") -> Any:
    """Return the first true thing that `look`, a function or a coroutine function, returns.

    Raises:
        AssertionError: nothing of the kind came in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come about within {timeout_s:g} s")
        await asyncio.sleep(POLL_S)

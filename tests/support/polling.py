"""Polls, with a deadline, for a condition that another process or task brings about."""

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
async def until(
    look: Callable[[], Awaitable[Found | None]], *, timeout_s: float = 10.0, what: str = "a condition"
) -> Found: ...


@overload
async def until(look: Callable[[], Found | None], *, timeout_s: float = 10.0, what: str = "a condition") -> Found: ...


async def until(look: Callable[[], Any], *, timeout_s: float = 10.0, what: str = "a condition") -> Any:
    """Poll `look`, a function or a coroutine function, and return its first truthy result.

    Raises:
        AssertionError: there was none within `timeout_s`; the message names `what`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:g} s for {what}")
        await asyncio.sleep(POLL_S)

"""Helpers for asyncio tasks: cancel and wait, run in the background, renew a lease, expire, fail as a group."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

CANCEL_INTERVAL_S = 0.1

log = structlog.get_logger(__name__)


async def cancel_and_wait(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and return once all have ended. What they raise then is dropped.

    If a task had already failed, its exception is left to asyncio, which logs it if nobody has retrieved it.

    One cancel is not enough: redis-py sends under `asyncio.wait_for`, which up to Python 3.11 drops a cancel that
    arrives just as the send completes (python/cpython#86296).
    """
    cancelled = pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _done, pending = await asyncio.wait(pending, timeout=CANCEL_INTERVAL_S)
    for task in cancelled:
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not log it


@asynccontextmanager
async def in_background(coroutine: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Run a coroutine while the body runs, then cancel it."""
    task = asyncio.create_task(coroutine)
    try:
        yield task
    finally:
        await cancel_and_wait(task)


def abandon(task: asyncio.Task[Any]) -> None:
    """Cancel a task without waiting; if it has already failed, drop its exception so that asyncio does not log it."""
    if not task.cancel() and not task.cancelled():
        task.exception()


async def settle(task: asyncio.Task[Any]) -> None:
    """Wait until a task has ended, without raising its exception."""
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


async def keep_renewed(
    renew: Callable[[], Awaitable[bool]],
    *,
    interval_s: float,
    lease_s: float | None = None,
    event: str,
    expected: tuple[type[BaseException], ...] = (Exception,),
    **facts: object,
) -> None:
    """Call `renew` every `interval_s` until it returns False; a call that raises is logged as `event` and retried.

    An exception that is not `expected` is logged with its traceback. With `lease_s`, also return once the lease has
    expired without a successful call, and limit each call to `interval_s`.
    """
    valid_until = time.monotonic() + lease_s if lease_s is not None else float("inf")
    while time.monotonic() < valid_until:
        await asyncio.sleep(interval_s)
        started_at = time.monotonic()
        try:
            async with asyncio.timeout(interval_s if lease_s is not None else None):
                if not await renew():
                    return
        except Exception as error:
            if isinstance(error, expected):
                log.warning(event, error=error, **facts)
            else:
                log.exception(event, **facts)
        else:
            valid_until = started_at + lease_s if lease_s is not None else valid_until


def expiring(timeout: asyncio.Timeout) -> Callable[[], None]:
    """Return a function that lets a timeout expire at once."""

    def expire() -> None:
        if not timeout.expired():
            timeout.reschedule(asyncio.get_running_loop().time())

    return expire


@asynccontextmanager
async def open_task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """Yield a task group that raises its first failure instead of an exception group.

    The other failures are cancellations caused by the first.
    """
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from failures

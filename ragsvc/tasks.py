"""Tasks that run beside something else and must not outlive it unnoticed."""

from __future__ import annotations

import asyncio
from typing import Any


def abandon(task: asyncio.Task[Any]) -> None:
    """Cancel a task that nobody waits for any more; what it failed with is looked at, so that nobody reports it."""
    if not task.cancel() and not task.cancelled():
        task.exception()


async def settle(task: asyncio.Task[Any]) -> None:
    """Wait until a task has ended, however it ended."""
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()

"""The memory budget of this process for parts that are on their way to the store."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field


class BufferBudget:
    """Grants shares of UPLOAD_BUFFER_BYTES in the order in which they are requested.

    A caller must not wait for a share while it holds one that is released only when the caller itself makes progress.
    It can hold the share of a part that is being stored, because that share is released in any case. This way, every
    share is eventually released and callers cannot deadlock.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.free_bytes = limit_bytes
        self._limit_bytes = limit_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def has_waiters(self) -> bool:
        """Return whether anyone is waiting for a share."""
        return bool(self._waiting)

    async def reserve(self, size_bytes: int) -> Share:
        """Wait for a share of this size and return it; a size above the limit is reduced to the limit."""
        size_bytes = min(size_bytes, self._limit_bytes)
        if self._waiting or size_bytes > self.free_bytes:
            await self._wait(size_bytes)
        else:
            self.free_bytes -= size_bytes
        return Share(self, size_bytes)

    def release(self, size_bytes: int) -> None:
        """Return bytes to the budget and grant them to waiting callers."""
        self.free_bytes += size_bytes
        while self._waiting and self._waiting[0][0] <= self.free_bytes:
            requested_bytes, granted = self._waiting.popleft()
            # Skip a waiter that was cancelled.
            if not granted.done():
                self.free_bytes -= requested_bytes
                granted.set_result(None)

    async def _wait(self, size_bytes: int) -> None:
        granted = asyncio.get_running_loop().create_future()
        self._waiting.append((size_bytes, granted))
        try:
            await granted
        except asyncio.CancelledError:
            # Return a share that was granted just before the cancellation. Otherwise release 0 bytes to re-check the
            # queue, since a smaller request behind this one might fit now.
            granted_bytes = size_bytes if granted.done() and not granted.cancelled() else 0
            self._waiting = deque(one for one in self._waiting if one[1] is not granted)
            self.release(granted_bytes)
            raise


@dataclass(slots=True)
class Share:
    """A reserved share of the budget."""

    budget: BufferBudget
    size_bytes: int
    taken_at: float = field(default_factory=time.monotonic)

    @property
    def contended_for_s(self) -> float:
        """Seconds since the share was granted; 0 while nobody waits for memory."""
        return time.monotonic() - self.taken_at if self.budget.has_waiters else 0.0

    def release(self) -> None:
        """Return the share to the budget; idempotent."""
        self.budget.release(self.size_bytes)
        self.size_bytes = 0

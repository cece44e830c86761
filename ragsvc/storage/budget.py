"""The memory that parts may take in this process while they are on their way to the store."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field


class BufferBudget:
    """UPLOAD_BUFFER_BYTES, given out in the order in which it is asked for.

    Whoever waits here must hold nothing but what comes back by itself, as a part that is being stored does: then all
    that is held comes back without the help of anybody who waits, and nobody waits for ever.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.free_bytes = limit_bytes
        self._limit_bytes = limit_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def has_waiters(self) -> bool:
        """Tell whether somebody waits."""
        return bool(self._waiting)

    async def reserve(self, size_bytes: int) -> Share:
        """Wait until so many bytes are free, or all when there are not as many, and return them as taken."""
        size_bytes = min(size_bytes, self._limit_bytes)
        if self._waiting or size_bytes > self.free_bytes:
            await self._wait(size_bytes)
        else:
            self.free_bytes -= size_bytes
        return Share(self, size_bytes)

    def release(self, size_bytes: int) -> None:
        """Take bytes back and give them to those who wait."""
        self.free_bytes += size_bytes
        while self._waiting and self._waiting[0][0] <= self.free_bytes:
            requested_bytes, granted = self._waiting.popleft()
            # One that was cancelled takes nothing.
            if not granted.done():
                self.free_bytes -= requested_bytes
                granted.set_result(None)

    async def _wait(self, size_bytes: int) -> None:
        granted = asyncio.get_running_loop().create_future()
        self._waiting.append((size_bytes, granted))
        try:
            await granted
        except asyncio.CancelledError:
            # Granted and cancelled at once: it goes back. Else those behind may be smaller than what was asked for.
            granted_bytes = size_bytes if granted.done() and not granted.cancelled() else 0
            self._waiting = deque(one for one in self._waiting if one[1] is not granted)
            self.release(granted_bytes)
            raise


@dataclass(slots=True)
class Share:
    """Bytes of the budget that somebody holds."""

    budget: BufferBudget
    size_bytes: int
    taken_at: float = field(default_factory=time.monotonic)

    @property
    def contended_for_s(self) -> float:
        """How long it has been held by now, 0 while nobody waits for it."""
        return time.monotonic() - self.taken_at if self.budget.has_waiters else 0.0

    def release(self) -> None:
        """Give it back; again is fine."""
        self.budget.release(self.size_bytes)
        self.size_bytes = 0

"""Buffers for a stream that is split into parts: one part fills while the previous one is being stored."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ragsvc.errors.requests import RequestTimeout
from ragsvc.shares import TOO_SLOW
from ragsvc.tasks import cancel_and_wait, expiring, settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ragsvc.shares import Share
    from ragsvc.storage.budget import BufferBudget

    Store = Callable[[list[bytearray]], Awaitable[object]]

# How long a part can take to fill while others wait for memory; then it is spilled.
TURN_S = 10.0
# The same for a part that cannot be spilled: an 8 MiB part must arrive at 2.3 Mbit/s or faster.
LONG_TURN_S = 30.0
# Up to here, a file takes memory from the reserve for small files.
SMALL_BYTES = 256 * 1024
CHUNK_BYTES = 64 * 1024


class Chunks:
    """Bytes in chunks of a fixed size: growing copies nothing, and freed memory can be reused by the next buffer."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._chunks: list[bytearray] = []

    def write(self, block: bytes | memoryview) -> None:
        """Add a copy of the bytes."""
        rest = memoryview(block)
        while rest:
            start = self.size_bytes % CHUNK_BYTES
            if not start:
                self._chunks.append(bytearray(CHUNK_BYTES))
            fitting = rest[: CHUNK_BYTES - start]
            self._chunks[-1][start : start + len(fitting)] = fitting
            self.size_bytes += len(fitting)
            rest = rest[len(fitting) :]

    def close(self) -> list[bytearray]:
        """Return the chunks, the last one trimmed; nothing can be written afterwards."""
        if rest_bytes := self.size_bytes % CHUNK_BYTES:
            del self._chunks[-1][rest_bytes:]
        return self._chunks


class PartBuffer:
    """The part that is filling and the one being stored; each has a share of the memory for uploads.

    The first SMALL_BYTES take memory as they arrive, from the reserve for small files. What is larger waits for the
    memory of a part, and its share ends if it is too slow while others wait.
    """

    def __init__(self, budget: BufferBudget, *, part_bytes: int, turn_s: float) -> None:
        self._budget = budget
        self._part_bytes = part_bytes
        self._turn_s = turn_s
        self._share: Share | None = None
        self._ended_at: float | None = None
        self._abort: Callable[[], None] | None = None
        self._filling = Chunks()
        self._storing: asyncio.Task[None] | None = None

    @property
    def size_bytes(self) -> int:
        """The number of bytes in the part that is filling."""
        return self._filling.size_bytes

    def is_overdue(self, *, for_s: float = 0.0) -> bool:
        """Return whether the memory of the part that is filling has been needed by others for this long."""
        return self._ended_at is not None and time.monotonic() - self._ended_at >= for_s

    async def reserve(self, added_bytes: int) -> None:
        """Wait until there is memory for this many more bytes, or for a whole part.

        Raises:
            Overloaded: no memory became free in time.
        """
        if self._share is not None and self._share.pool is self._budget.parts:
            return
        if self._has_small_share(min(self.size_bytes + added_bytes, self._part_bytes)):
            return
        share = await self._budget.parts.take(self._part_bytes, end=self._end, turn_s=self._turn_s)
        share.arrived = self.size_bytes
        if self._share is not None:
            self._share.release()
        self._share = share

    def _has_small_share(self, size_bytes: int) -> bool:
        if size_bytes > SMALL_BYTES:
            return False
        if self._share is None:
            self._share = self._budget.small.open()
        chunks_bytes = -(-size_bytes // CHUNK_BYTES) * CHUNK_BYTES
        return self._share.try_grow(max(0, chunks_bytes - self._share.amount))

    def _end(self) -> None:
        self._ended_at = time.monotonic()
        if self._abort is not None:
            self._abort()

    @asynccontextmanager
    async def abort_when_slow(self) -> AsyncIterator[None]:
        """Abort the `async with` body if a part that cannot be spilled fills too slowly while others wait for memory.

        Raises:
            RequestTimeout: the body was aborted.
        """
        try:
            async with asyncio.timeout(None) as limit:
                self._abort = expiring(limit)
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise RequestTimeout(TOO_SLOW) from None
        finally:
            self._abort = None

    def write(self, block: bytes | memoryview) -> None:
        """Add bytes to the part that is filling."""
        self._filling.write(block)
        if self._share is not None:
            self._share.arrived = self.size_bytes

    async def start_storing(self, store: Store) -> None:
        """Wait until the previous part is stored, then store this one in the background and start an empty one.

        Raises:
            Exception: any error that `store` raised for the previous part.
        """
        await self.wait_until_stored()
        body, share = self._filling.close(), self._share
        self._filling, self._share, self._ended_at = Chunks(), None, None
        self._storing = asyncio.create_task(_store(store, body))
        if share is not None:
            share.end = None
            # A callback, since a task that is cancelled before it starts never reaches a `finally`.
            self._storing.add_done_callback(lambda _stored: share.release())

    async def wait_until_stored(self) -> None:
        """Wait for the part that is being stored, if any; re-raise any error that `store` raised."""
        if self._storing is not None:
            await self._storing
            self._storing = None

    async def spill(self, store: Store) -> int:
        """Store the incomplete part and free its memory; return how many bytes it had."""
        size_bytes = self.size_bytes
        await self.start_storing(store)
        await self.wait_until_stored()
        return size_bytes

    async def close(self) -> None:
        """Discard everything that is not stored yet and free the memory."""
        if self._storing is not None:
            await cancel_and_wait(self._storing)
            await settle(self._storing)
        if self._share is not None:
            self._share.release()


async def _store(store: Store, body: list[bytearray]) -> None:
    await store(body)

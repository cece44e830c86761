"""Buffers for a stream that is split into parts: one part fills while the previous one is being stored."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ragsvc.errors import Unavailable
from ragsvc.tasks import cancel_and_wait, in_background, settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ragsvc.storage.budget import BufferBudget, Share

    Store = Callable[[list[bytearray]], Awaitable[object]]

# How long a part can take to fill while others wait for memory.
TURN_S = 10.0
# How many turns a part that cannot be spilled can take to fill, so an 8 MiB part must arrive at 1.1 Mbit/s or faster.
MAX_TURNS = 6
# How long a request that cannot be resumed waits for memory.
WAIT_S = 30.0
POLL_S = 1.0
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
    """The part that is filling and the one being stored; each has a share of the process's buffer budget.

    To avoid deadlocks, a share is never awaited while a part is filling (see BufferBudget).
    """

    def __init__(self, budget: BufferBudget, *, reserved_bytes: int) -> None:
        self._budget = budget
        self._reserved_bytes = reserved_bytes
        self._share: Share | None = None
        self._filling = Chunks()
        self._storing: asyncio.Task[None] | None = None

    @property
    def size_bytes(self) -> int:
        """The number of bytes in the part that is filling."""
        return self._filling.size_bytes

    def is_overdue(self, *, turns: int = 1) -> bool:
        """Return whether others wait for memory and the part has been filling for at least this many turns."""
        return self._share is not None and self._share.contended_for_s >= turns * TURN_S

    async def reserve(self) -> None:
        """Wait for the memory of a part."""
        if self._share is None:
            self._share = await self._budget.reserve(self._reserved_bytes)

    async def reserve_or_fail(self) -> None:
        """Wait for the memory of a part, at most WAIT_S seconds.

        Raises:
            Unavailable: no memory became free in that time.
        """
        try:
            async with asyncio.timeout(WAIT_S):
                await self.reserve()
        except TimeoutError:
            raise Unavailable("Too many files are being received at once; try again later.") from None

    @asynccontextmanager
    async def abort_when_slow(self) -> AsyncIterator[None]:
        """Abort the `async with` body if a part that cannot be spilled fills too slowly while others wait for memory.

        Raises:
            Unavailable: the body was aborted.
        """
        try:
            async with asyncio.timeout(None) as limit:
                async with in_background(self._watch(limit)):
                    yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise Unavailable("The file was sent too slowly while other uploads waited; send it again.") from None

    async def _watch(self, limit: asyncio.Timeout) -> None:
        while True:
            if self.is_overdue(turns=MAX_TURNS):
                limit.reschedule(asyncio.get_running_loop().time())
                return
            await asyncio.sleep(POLL_S)

    def write(self, block: bytes | memoryview) -> None:
        """Add bytes to the part that is filling."""
        self._filling.write(block)

    async def start_storing(self, store: Store) -> None:
        """Wait until the previous part is stored, then store this one in the background and start an empty one.

        Raises:
            Exception: any error that `store` raised for the previous part.
        """
        await self.wait_until_stored()
        body, share = self._filling.close(), self._share
        self._filling, self._share = Chunks(), None
        self._storing = asyncio.create_task(_store(store, body))
        if share is not None:
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

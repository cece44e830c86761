"""The buffers of one stream that is cut into parts: one fills while the one before it is on its way to the store."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ragsvc.errors import Unavailable
from ragsvc.tasks import cancel_and_wait, in_background

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ragsvc.storage.budget import BufferBudget, Share

    Store = Callable[[list[bytearray]], Awaitable[object]]

# While others wait for memory, so long may a part take to fill.
TURN_S = 10.0
# And so many turns where it cannot be set aside: 8 MiB then need 1.1 Mbit/s.
MAX_TURNS = 6
# How long a request waits for its turn that could not go on later.
WAIT_S = 30.0
POLL_S = 1.0
CHUNK_BYTES = 64 * 1024


class Chunks:
    """Bytes in chunks of one size: nothing is copied as they grow, and memory that comes back fits who is next."""

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
        """Return the bytes; no more are added."""
        if rest_bytes := self.size_bytes % CHUNK_BYTES:
            del self._chunks[-1][rest_bytes:]
        return self._chunks


class PartBuffer:
    """The part that fills, and the one that is being stored; each holds its share of the process's budget.

    Nobody waits for a share who holds a part that fills: see BufferBudget.
    """

    def __init__(self, budget: BufferBudget, *, reserved_bytes: int) -> None:
        self._budget = budget
        self._reserved_bytes = reserved_bytes
        self._share: Share | None = None
        self._filling = Chunks()
        self._storing: asyncio.Task[None] | None = None

    @property
    def size_bytes(self) -> int:
        """How many bytes of the part are there."""
        return self._filling.size_bytes

    def is_overdue(self, *, turns: int = 1) -> bool:
        """Tell whether others wait, and the part has been filling for this many turns."""
        return self._share is not None and self._share.contended_for_s >= turns * TURN_S

    async def reserve(self) -> None:
        """Wait until a part may fill."""
        if self._share is None:
            self._share = await self._budget.reserve(self._reserved_bytes)

    async def reserve_or_fail(self) -> None:
        """Wait until a part may fill, but not for long.

        Raises:
            Unavailable: others needed the memory all that time.
        """
        try:
            async with asyncio.timeout(WAIT_S):
                await self.reserve()
        except TimeoutError:
            raise Unavailable("Too many files are being received at once; send it again.") from None

    @asynccontextmanager
    async def abort_when_slow(self) -> AsyncIterator[None]:
        """End the body when others have waited too long for a part that fills and cannot be set aside.

        Raises:
            Unavailable: they have.
        """
        try:
            async with asyncio.timeout(None) as limit:
                async with in_background(self._watch(limit)):
                    yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise Unavailable("The file came too slowly while others waited; send it again.") from None

    async def _watch(self, limit: asyncio.Timeout) -> None:
        while True:
            if self.is_overdue(turns=MAX_TURNS):
                limit.reschedule(asyncio.get_running_loop().time())
                return
            await asyncio.sleep(POLL_S)

    def write(self, block: bytes | memoryview) -> None:
        """Add to the part that fills."""
        self._filling.write(block)

    async def start_storing(self, store: Store) -> None:
        """Begin to store the part once the one before it is stored, and go on with an empty one.

        Raises:
            what `store` raised for the one before.
        """
        await self.wait_until_stored()
        body, share = self._filling.close(), self._share
        self._filling, self._share = Chunks(), None
        self._storing = asyncio.create_task(_store(store, body))
        if share is not None:
            # And not at the task's end, which one that is cancelled at once does not come to.
            self._storing.add_done_callback(lambda _stored: share.release())

    async def wait_until_stored(self) -> None:
        """Wait for the part on its way, if there is one; raises what `store` raised."""
        if self._storing is not None:
            await self._storing
            self._storing = None

    async def spill(self, store: Store) -> int:
        """Store the part unfinished and let others have its memory; return how many bytes it had."""
        size_bytes = self.size_bytes
        await self.start_storing(store)
        await self.wait_until_stored()
        return size_bytes

    async def close(self) -> None:
        """Give up what is not stored, and hold nothing more."""
        if self._storing is not None:
            await cancel_and_wait(self._storing)
        if self._share is not None:
            self._share.release()


async def _store(store: Store, body: list[bytearray]) -> None:
    await store(body)

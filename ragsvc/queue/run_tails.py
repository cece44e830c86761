"""Readers that follow any number of runs over one Redis connection."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import structlog

from ragsvc.domain.ids import new_id
from ragsvc.queue.connection import REDIS_TROUBLE
from ragsvc.queue.run_streams import Entry, read_entries, run_key
from ragsvc.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from ragsvc.queue.connection import RedisConnection

# Below the connection's read timeout, after which Redis counts as unavailable.
BLOCK_MS = 4000
BATCH = 200
RETRY_S = 0.5
# A reader with this many waiting events receives no more until it has taken them.
MAX_WAITING = 1000
WAKE_TTL_S = 60

log = structlog.get_logger(__name__)


class Tail:
    """One reader's position in a run."""

    def __init__(self, run_id: UUID, *, after: int) -> None:
        self.run_id = run_id
        self.position = after
        self._waiting: list[Entry] = []
        self._arrived = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """Whether the reader has so many waiting events that it is skipped."""
        return len(self._waiting) >= MAX_WAITING

    def offer(self, entries: list[Entry]) -> None:
        """Add the entries that the reader does not have yet."""
        new = [entry for entry in entries if entry[0] > self.position]
        if new:
            self._waiting.extend(new)
            self.position = new[-1][0]
            self._arrived.set()

    async def take(self, *, timeout_s: float) -> list[Entry]:
        """Wait for events and return them; [] if none arrived within `timeout_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._arrived.wait()
        self._arrived.clear()
        taken, self._waiting = self._waiting, []
        return taken


class RunTails:
    """The readers of this process, all served by one blocking XREAD."""

    def __init__(self, redis: RedisConnection, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._tails: set[Tail] = set()
        self._reader: asyncio.Task[None] | None = None
        # An entry in this stream wakes the blocked XREAD, so that the next one includes a new reader.
        self._wake_key = f"{prefix}:tails:{new_id().hex}"
        self._wake_position = "0-0"

    @asynccontextmanager
    async def follow(self, run_id: UUID, *, after: int) -> AsyncIterator[Tail]:
        """Follow a run's events after number `after`; none arrive while Redis is unavailable."""
        tail = Tail(run_id, after=after)
        self._tails.add(tail)
        try:
            await self._wake()
            yield tail
        finally:
            self._tails.discard(tail)

    async def close(self) -> None:
        """Stop reading."""
        if self._reader is not None:
            await cancel_and_wait(self._reader)

    async def _wake(self) -> None:
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read())
            return
        with suppress(*REDIS_TROUBLE):
            async with asyncio.timeout(RETRY_S), self._redis.pipeline(transaction=False) as pipe:
                pipe.xadd(self._wake_key, {b"e": b""}, maxlen=1, approximate=False)
                pipe.expire(self._wake_key, WAKE_TTL_S)
                await pipe.execute()

    async def _read(self) -> None:
        while self._tails:
            try:
                await self._read_once()
            except REDIS_TROUBLE as error:
                log.warning("run_streams_unreadable", error=error)
                await asyncio.sleep(RETRY_S)

    async def _read_once(self) -> None:
        by_run: defaultdict[UUID, list[Tail]] = defaultdict(list)
        for tail in self._tails:
            if not tail.is_full:
                by_run[tail.run_id].append(tail)
        tails_of = {run_key(self._prefix, run_id).encode(): tails for run_id, tails in by_run.items()}
        positions: dict[Any, Any] = {
            key: f"{min(tail.position for tail in tails)}-0" for key, tails in tails_of.items()
        }
        positions[self._wake_key] = self._wake_position
        reply = await self._redis.xread(positions, count=BATCH, block=BLOCK_MS)
        for key, entries in reply:
            if key in tails_of:
                for tail in tails_of[key]:
                    tail.offer(read_entries(entries))
            else:
                self._wake_position = entries[-1][0].decode()

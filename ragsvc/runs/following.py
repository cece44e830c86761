"""Follows a run: in its owner's process through the journal, in others through Postgres and the Redis stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ragsvc.db import chat_runs
from ragsvc.runs.events import RunCancelled, RunEvent, decode_body
from ragsvc.runs.journal import Journal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from uuid import UUID

    from ragsvc.queue.run_streams import Entry
    from ragsvc.queue.run_tails import RunTails, Tail
    from ragsvc.resources import Resources
    from ragsvc.runs.owner import RunOwner

# If a stream has no new events for this long, Postgres is read: the stream may be gone or lack the run's end.
POLL_S = 1.0
# Wait before reading Postgres for events that the stream lacks: the owner stores them with its next save.
GAP_S = 0.2


class Follower:
    """Reads the events of runs for clients of this process."""

    def __init__(self, resources: Resources, owner: RunOwner, tails: RunTails) -> None:
        self._pool = resources.pool
        self._owner = owner
        self._tails = tails

    async def follow(self, workspace_id: UUID, run_id: UUID, *, after: int = 0) -> AsyncGenerator[list[RunEvent], None]:
        """Yield batches of the events after number `after`, up to the run's end; existing ones are yielded at once.

        All readers in all processes see the same events. If the session is deleted, the run ends as cancelled, after
        the events that the reader has seen.
        """
        position = after
        journal = self._owner.journal_of(run_id)
        if journal is not None:
            async for batch in journal.follow(after=position):
                yield batch
                position = batch[-1].id
                if batch[-1].is_end:
                    return
        async for batch in self._follow_stored(workspace_id, run_id, after=position):
            yield batch

    async def _follow_stored(
        self, workspace_id: UUID, run_id: UUID, *, after: int
    ) -> AsyncGenerator[list[RunEvent], None]:
        position = after
        async with self._tails.follow(run_id, after=position) as tail:
            stream = _StreamReader(tail)
            while True:
                async with self._pool.scoped_to(workspace_id).acquire() as conn:
                    stored = await chat_runs.select_run_with_message(conn, workspace_id, run_id)
                if stored is None:
                    yield [RunEvent(position + 1, RunCancelled())]
                    return
                journal = Journal.restore(*stored)
                while batch := journal.read_batch(after=position):
                    yield batch
                    if batch[-1].is_end:
                        return
                    position = batch[-1].id
                if journal.end is not None:
                    # The owner published more events than it saved before it died. Send the end anyway, unless the
                    # reader asked only for events after the end.
                    if position > journal.last_id or position > after:
                        yield [RunEvent(position + 1, journal.end)]
                    return
                async for batch in stream.read(after=position):
                    yield batch
                    position = batch[-1].id


class _StreamReader:
    """Reads a stream in order; entries after a gap are buffered until Postgres has filled the gap."""

    def __init__(self, tail: Tail) -> None:
        self._tail = tail
        self._ahead: list[Entry] = []
        # The event that Postgres was already read for.
        self._awaited_id = 0

    async def read(self, *, after: int) -> AsyncGenerator[list[RunEvent], None]:
        """Yield the events that follow number `after` without a gap, until Postgres must be read."""
        position = after
        while True:
            batch, may_continue = self._take_next(position)
            if batch:
                yield batch
                position = batch[-1].id
            if not may_continue:
                if self._awaited_id == position + 1:
                    await asyncio.sleep(GAP_S)
                self._awaited_id = position + 1
                return
            if self._ahead:
                await asyncio.sleep(GAP_S)
                return
            taken = await self._tail.take(timeout_s=POLL_S)
            if not taken:
                return
            self._ahead = [entry for entry in taken if entry[0] > position]

    def _take_next(self, position: int) -> tuple[list[RunEvent], bool]:
        """Return the events that follow without a gap, and False if the next one must be read from Postgres."""
        batch: list[RunEvent] = []
        self._ahead = [entry for entry in self._ahead if entry[0] > position]
        for number, (event_id, content) in enumerate(self._ahead):
            if event_id != position + 1 + number:
                break
            body = decode_body(content)
            if body is None:
                return batch, False
            batch.append(RunEvent(event_id, body))
        del self._ahead[: len(batch)]
        return batch, True

"""Follows a run from any process: its owner's journal where that is here, else Postgres and the Redis stream."""

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

# A stream that says nothing for so long may have lost its end, or be gone: Postgres is asked.
LOOK_S = 1.0
# The stream lacks what Postgres will have at the owner's next save.
GAP_S = 0.2


class Follower:
    """Reads runs' events for this process's clients."""

    def __init__(self, resources: Resources, owner: RunOwner, tails: RunTails) -> None:
        self._pool = resources.pool
        self._owner = owner
        self._tails = tails

    async def follow(self, workspace_id: UUID, run_id: UUID, *, after: int = 0) -> AsyncGenerator[list[RunEvent], None]:
        """Yield the events after number `after` as they come, those that are there already at once, to the run's end.

        They are the same for every reader, wherever they are read. A run whose session is deleted meanwhile ends as
        cancelled, behind what the reader has seen.
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
            reading = _Reading(tail)
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
                    # Its owner told more than it could save before it died; the end still has to be told, but not to
                    # somebody who resumes behind it.
                    if position > journal.last_id or position > after:
                        yield [RunEvent(position + 1, journal.end)]
                    return
                async for batch in reading.read(after=position):
                    yield batch
                    position = batch[-1].id


class _Reading:
    """What a stream told and nobody could use yet: it lies behind a gap that Postgres will fill."""

    def __init__(self, tail: Tail) -> None:
        self._tail = tail
        self._ahead: list[Entry] = []

    async def read(self, *, after: int) -> AsyncGenerator[list[RunEvent], None]:
        """Yield the events that follow number `after` without a gap, until Postgres has to be asked."""
        position = after
        while True:
            batch, knows_more = self._take_next(position)
            if batch:
                yield batch
                position = batch[-1].id
            if not knows_more:
                return
            if self._ahead:
                await asyncio.sleep(GAP_S)
                return
            taken = await self._tail.take(timeout_s=LOOK_S)
            if not taken:
                return
            self._ahead = [entry for entry in taken if entry[0] > position]

    def _take_next(self, position: int) -> tuple[list[RunEvent], bool]:
        """Return what follows without a gap, and False behind it when Postgres has to tell what comes then."""
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

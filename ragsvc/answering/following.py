"""Follows a run from any process: its owner's journal where that is here, else Postgres and the Redis stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ragsvc.answering.events import RunEvent, decode_body
from ragsvc.answering.journal import Journal
from ragsvc.db import chat_runs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from uuid import UUID

    from ragsvc.answering.run_owner import RunOwner
    from ragsvc.queue.run_streams import Entry
    from ragsvc.queue.run_tails import RunTails, Tail
    from ragsvc.resources import Resources

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

    async def follow(self, workspace_id: UUID, run_id: UUID, *, after: int = 0) -> AsyncGenerator[RunEvent, None]:
        """Yield the events after number `after` as they come, to the run's end.

        They are the same for every reader, wherever they are read. A run that is deleted meanwhile has no end event.
        """
        position = after
        journal = self._owner.journal_of(run_id)
        if journal is not None:
            async for event in journal.follow(after=position):
                yield event
                position = event.id
                if event.is_end:
                    return
        async for event in self._follow_stored(workspace_id, run_id, after=position):
            yield event

    async def _follow_stored(self, workspace_id: UUID, run_id: UUID, *, after: int) -> AsyncGenerator[RunEvent, None]:
        position = after
        async with self._tails.follow(run_id, after=position) as tail:
            while True:
                async with self._pool.acquire() as conn:
                    stored = await chat_runs.select_run_with_message(conn, workspace_id, run_id)
                if stored is None:
                    return
                journal = Journal.restore(*stored)
                for event in journal.read(after=position):
                    yield event
                    position = event.id
                if journal.end is not None:
                    if position > journal.last_id > after:
                        # A stream told more than its owner could save before it died; the end still has to be told.
                        yield RunEvent(position + 1, journal.end)
                    return
                for event in await self._take(tail, position):
                    yield event
                    position = event.id

    async def _take(self, tail: Tail, position: int) -> list[RunEvent]:
        """Return the events that the stream has next, as far as they follow the position without a gap."""
        entries = await tail.take(timeout_s=LOOK_S)
        events = list(_read_on(entries, position))
        if any(entry_id > position for entry_id, _content in entries) and not events:
            await asyncio.sleep(GAP_S)
        return events


def _read_on(entries: list[Entry], position: int) -> list[RunEvent]:
    events: list[RunEvent] = []
    for entry_id, content in entries:
        if entry_id <= position:
            continue
        body = decode_body(content)
        if body is None or entry_id != position + 1:
            break
        events.append(RunEvent(entry_id, body))
        position = entry_id
    return events

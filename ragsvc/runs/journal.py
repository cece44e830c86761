"""A run's events in memory: written by its owner, read by any number of readers, restored from Postgres."""

from __future__ import annotations

import asyncio
from array import array
from typing import TYPE_CHECKING

from ragsvc.domain.chat.citations import Citation
from ragsvc.domain.chat.conversations import RunStatus
from ragsvc.runs.events import (
    EventBody,
    MessageCitation,
    MessageCompleted,
    MessageDelta,
    RetrievalCompleted,
    RunCancelled,
    RunEnd,
    RunEvent,
    RunFailed,
    RunInterrupted,
    RunStarted,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from uuid import UUID

    from ragsvc.domain.chat.citations import Source
    from ragsvc.domain.chat.conversations import ChatMessage, ChatRun

STARTED_ID = 1
# Maximum number of events that a reader gets at once.
BATCH = 256


class Journal:
    """The events of one run, numbered from 1: its start, its sources, deltas and citations, its end.

    Readers see an event once it is released: when it is in Redis or Postgres, so that it would survive this process, or
    at once if Redis is unavailable. Deltas are stored as plain text, since there may be thousands of runs.
    """

    def __init__(self, run_id: UUID, message_id: UUID) -> None:
        self.run_id = run_id
        self.message_id = message_id
        self.sources: tuple[Source, ...] | None = None
        self.end: RunEnd | None = None
        self.is_lost = False
        self._entries: list[str | Citation] = []
        self._offsets = array("q")  # length of the text before each entry
        self._length = 0
        self._released = STARTED_ID
        self._waiters: set[asyncio.Future[None]] = set()

    @classmethod
    def restore(cls, run: ChatRun, message: ChatMessage) -> Journal:
        """Return the journal as it was last saved."""
        journal = cls(run.id, run.message_id)
        ended = run.status is not RunStatus.RUNNING
        if run.last_event_id - len(run.marks) - ended > STARTED_ID:
            journal.add_sources(message.sources)
        citations = iter(message.citations)
        offset = 0
        for length in run.marks:
            if length:
                journal.add_text(message.content[offset : offset + length])
                offset += length
            else:
                journal.add_citation(next(citations))
        if ended:
            journal.end = end_of(run, message)
        journal.release(journal.last_id)
        return journal

    @property
    def last_id(self) -> int:
        """The number of the newest event."""
        return self._first_entry_id - 1 + len(self._entries) + (self.end is not None)

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(entry for entry in self._entries if isinstance(entry, str))

    @property
    def citations(self) -> tuple[Citation, ...]:
        """The citations so far."""
        return tuple(entry for entry in self._entries if isinstance(entry, Citation))

    @property
    def marks(self) -> tuple[int, ...]:
        """The length of each delta, or 0 for a citation, in the order of the events."""
        return tuple(len(entry) if isinstance(entry, str) else 0 for entry in self._entries)

    @property
    def length(self) -> int:
        """The length of the answer so far, in code points."""
        return self._length

    def add_sources(self, sources: tuple[Source, ...]) -> None:
        """Add the sources; they precede all text."""
        self.sources = sources

    def add_text(self, text: str) -> None:
        """Add a piece of the answer, which must not be empty."""
        self._entries.append(text)
        self._offsets.append(self._length)
        self._length += len(text)

    def add_citation(self, citation: Citation) -> None:
        """Add a citation of a `[n]` that is part of the text so far."""
        self._entries.append(citation)
        self._offsets.append(self._length)

    def replace_citations(self, citations: tuple[Citation, ...]) -> None:
        """Replace all citations, in their order; readers that already have them get the new ones with the end."""
        new = iter(citations)
        self._entries = [next(new) if isinstance(entry, Citation) else entry for entry in self._entries]

    def release(self, event_id: int) -> None:
        """Let readers see the events up to number `event_id`."""
        if event_id > self._released:
            self._released = event_id
            self._notify()

    def lose(self) -> None:
        """Make readers continue from Postgres: the run has another owner, or was deleted."""
        self.is_lost = True
        self._notify()

    def read(self, *, after: int, upto: int | None = None) -> Iterator[RunEvent]:
        """Yield the events after number `after`, up to and including number `upto`."""
        last_id = self.last_id if upto is None else min(upto, self.last_id)
        for event_id in range(after + 1, min(last_id + 1, self._first_entry_id)):
            yield RunEvent(event_id, self._head(event_id))
        for event_id in range(max(after + 1, self._first_entry_id), last_id + 1 - self._ends_at(last_id)):
            yield RunEvent(event_id, self._entry(event_id - self._first_entry_id))
        if self.end is not None and after < last_id and self._ends_at(last_id):
            yield RunEvent(self.last_id, self.end)

    def read_batch(self, *, after: int, upto: int | None = None) -> list[RunEvent]:
        """Return the first events that `read` would yield, at most BATCH."""
        last_id = self.last_id if upto is None else upto
        return list(self.read(after=after, upto=min(after + BATCH, last_id)))

    async def follow(self, *, after: int) -> AsyncGenerator[list[RunEvent], None]:
        """Yield batches of the events after number `after` as they are released, until the run ends or is lost."""
        position = after
        while True:
            while batch := self.read_batch(after=position, upto=self._released):
                yield batch
                position = batch[-1].id
            if self.is_lost or (self.end is not None and self._released >= self.last_id):
                return
            # No event was missed: nothing was awaited since the read above.
            change = asyncio.get_running_loop().create_future()
            self._waiters.add(change)
            try:
                await change
            finally:
                self._waiters.discard(change)

    @property
    def _first_entry_id(self) -> int:
        return STARTED_ID + 1 + (self.sources is not None)

    def _head(self, event_id: int) -> EventBody:
        return RunStarted(self.message_id) if event_id == STARTED_ID else RetrievalCompleted(self.sources or ())

    def _entry(self, index: int) -> EventBody:
        entry = self._entries[index]
        return MessageDelta(entry, self._offsets[index]) if isinstance(entry, str) else MessageCitation(entry)

    def _ends_at(self, event_id: int) -> bool:
        return self.end is not None and event_id == self.last_id

    def _notify(self) -> None:
        for change in self._waiters:
            if not change.done():
                change.set_result(None)


def end_of(run: ChatRun, message: ChatMessage) -> RunEnd | None:
    """Return the event that a run ended with; None while it runs."""
    match run.status:
        case RunStatus.RUNNING:
            return None
        case RunStatus.COMPLETED:
            return MessageCompleted(message, run.finish_reason or "stop")
        case RunStatus.CANCELLED:
            return RunCancelled()
        case RunStatus.INTERRUPTED:
            return RunInterrupted(len(message.content))
        case RunStatus.FAILED if run.error is not None:
            return RunFailed(run.error.code, run.error.message, run.error.retryable)
        case RunStatus.FAILED:
            return RunFailed("internal", "The run failed", retryable=True)

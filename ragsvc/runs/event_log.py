"""Appends the events of this process's runs to their Redis streams, many runs in one round trip."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from ragsvc.queue.connection import REDIS_TROUBLE
from ragsvc.queue.run_streams import append_events
from ragsvc.runs.events import encode_body

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.resources import Resources
    from ragsvc.runs.journal import Journal

# Readers wait so long for Redis at most; then it counts as away, and is left alone for a while.
APPEND_TIMEOUT_S = 0.25
FIRST_AWAY_S = 0.5
LONGEST_AWAY_S = 5.0
# What can wait, because Postgres has it, waits so long at most for something that cannot. No longer: a deletion that is
# accepted meanwhile removes a stream that is not there yet.
LINGER_S = 0.005

log = structlog.get_logger(__name__)


class EventLog:
    """One writer for all journals of the process: while a batch is on its way, the next one gathers."""

    def __init__(self, resources: Resources) -> None:
        self._redis = resources.redis
        self._prefix = resources.settings.stores.queue_prefix
        self._waiting: dict[UUID, Journal] = {}
        self._appended: dict[UUID, int] = {}
        self._wanted = asyncio.Event()
        self._away_s = 0.0
        self._away_until = 0.0

    def publish(self, journal: Journal) -> None:
        """Have the journal's new events appended soon, and released to its readers then."""
        self._waiting[journal.run_id] = journal
        self._wanted.set()

    def publish_soon(self, journal: Journal) -> None:
        """Have events that are stored already appended with the next ones, if those come soon.

        The first words need not wait then until a round trip for the sources is over.
        """
        self._waiting[journal.run_id] = journal
        asyncio.get_running_loop().call_later(LINGER_S, self._wanted.set)

    def forget(self, run_id: UUID) -> None:
        """Keep nothing of a run that ended without an end event here."""
        self._appended.pop(run_id, None)

    async def run(self) -> None:
        """Append until cancelled."""
        while True:
            await self._wanted.wait()
            try:
                await self.flush()
            except Exception:
                log.exception("run_events_not_appended")

    async def flush(self) -> None:
        """Append what is waiting. Without Redis the events are released all the same: Postgres tells them again."""
        self._wanted.clear()
        journals, self._waiting = list(self._waiting.values()), {}
        upto = {journal.run_id: journal.last_id for journal in journals}
        is_appended = await self._append(journals)
        for journal in journals:
            if journal.end is not None:
                self._appended.pop(journal.run_id, None)
            elif is_appended:
                self._appended[journal.run_id] = upto[journal.run_id]
            journal.release(upto[journal.run_id])

    async def _append(self, journals: list[Journal]) -> bool:
        if not journals or time.monotonic() < self._away_until:
            return False
        # From the first event that is not known to be there: after an outage the stream is made whole.
        batches = {
            journal.run_id: [
                (event.id, encode_body(event.body))
                for event in journal.read(after=self._appended.get(journal.run_id, 0))
            ]
            for journal in journals
        }
        try:
            async with asyncio.timeout(APPEND_TIMEOUT_S):
                await append_events(self._redis, self._prefix, batches)
        except REDIS_TROUBLE as error:
            self._away_s = min(max(FIRST_AWAY_S, self._away_s * 2), LONGEST_AWAY_S)
            self._away_until = time.monotonic() + self._away_s
            log.warning("run_events_not_appended", runs=len(journals), error=error)
            return False
        self._away_s = 0.0
        return True

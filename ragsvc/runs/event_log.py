"""Appends the events of this process's runs to their Redis streams, for many runs in one round trip."""

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

# Readers wait for Redis at most this long. After a failure it is not called again until a backoff has passed.
APPEND_TIMEOUT_S = 0.25
FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 5.0
# Delay before events that are already in Postgres are appended, so that they can share a round trip with others. Kept
# short: a deletion that is accepted during the wait cannot remove a stream that does not exist yet.
LINGER_S = 0.005

log = structlog.get_logger(__name__)


class EventLog:
    """Appends the events of all journals of the process; while one batch is sent, the next one is collected."""

    def __init__(self, resources: Resources) -> None:
        self._redis = resources.redis
        self._prefix = resources.settings.stores.queue_prefix
        self._pending: dict[UUID, Journal] = {}
        # The last event of each run that is known to be in its stream.
        self._appended: dict[UUID, int] = {}
        self._has_pending = asyncio.Event()
        self._backoff_s = 0.0
        self._backoff_until = 0.0

    def publish(self, journal: Journal) -> None:
        """Schedule the journal's new events to be appended and then released to its readers."""
        self._pending[journal.run_id] = journal
        self._has_pending.set()

    def publish_soon(self, journal: Journal) -> None:
        """Schedule events that are already stored; they wait up to LINGER_S for further events to join the batch.

        Without this delay, the answer's first words would have to wait until the sources have been sent.
        """
        self._pending[journal.run_id] = journal
        asyncio.get_running_loop().call_later(LINGER_S, self._has_pending.set)

    def forget(self, run_id: UUID) -> None:
        """Drop the state of a run that leaves this process without an end event."""
        self._appended.pop(run_id, None)

    async def run(self) -> None:
        """Append until cancelled."""
        while True:
            await self._has_pending.wait()
            try:
                await self.flush()
            except Exception:
                log.exception("run_events_not_appended")

    async def flush(self) -> None:
        """Append pending events, then release them, even if Redis is unavailable: Postgres will have them."""
        self._has_pending.clear()
        journals, self._pending = list(self._pending.values()), {}
        upto = {journal.run_id: journal.last_id for journal in journals}
        is_appended = await self._append(journals)
        for journal in journals:
            if journal.end is not None:
                self._appended.pop(journal.run_id, None)
            elif is_appended:
                self._appended[journal.run_id] = upto[journal.run_id]
            journal.release(upto[journal.run_id])

    async def _append(self, journals: list[Journal]) -> bool:
        if not journals or time.monotonic() < self._backoff_until:
            return False
        # Start after the last event known to be appended, so that an outage leaves no gap in the stream.
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
            self._backoff_s = min(max(FIRST_BACKOFF_S, self._backoff_s * 2), MAX_BACKOFF_S)
            self._backoff_until = time.monotonic() + self._backoff_s
            log.warning("run_events_not_appended", runs=len(journals), error=error)
            return False
        self._backoff_s = 0.0
        return True

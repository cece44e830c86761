"""Writes a run for its owner: to the journal at once, to Redis and Postgres soon after."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from ragsvc.db import chat_runs
from ragsvc.db.connections.pool import DATABASE_TROUBLE
from ragsvc.domain.chat.conversations import RunProgress, RunStatus, TokenUsage
from ragsvc.errors.requests import Overloaded
from ragsvc.errors.work import LeaseLost
from ragsvc.runs.journal import Journal, end_of
from ragsvc.telemetry.metrics import CITATIONS, RUN_FIRST_TOKEN

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.answering.answer import Outcome
    from ragsvc.domain.chat.citations import Citation, Source
    from ragsvc.resources import Resources
    from ragsvc.runs.event_log import EventLog
    from ragsvc.runs.events import RunEnd

SAVE_RETRY_S = 0.25
# A save writes the whole answer again. Waiting in proportion to its size bounds what a run writes per second, so that
# the writes of a long answer grow linearly with it; answers of usual length are saved each time.
SAVED_BYTES_PER_S = 32 * 1024
MARK_BYTES = 4
CITATION_BYTES = 1024

log = structlog.get_logger(__name__)


class RunWriter:
    """Writes one run. Only one save runs at a time, so an older state never overwrites a newer one."""

    def __init__(
        self,
        resources: Resources,
        event_log: EventLog,
        *,
        workspace_id: UUID,
        run_id: UUID,
        message_id: UUID,
        owner: str,
    ) -> None:
        self.journal = Journal(run_id, message_id)
        self.is_finishing = False
        self.begun_at = time.perf_counter()
        self.model: str | None = None
        self.usage: TokenUsage | None = None
        self._resources = resources
        self._event_log = event_log
        self._workspace_id = workspace_id
        self._owner = owner
        self._saving = asyncio.Lock()
        self._saved_id = 1
        self._saved_citations = 0
        # Not reset by a save, which can have begun before the citations were replaced.
        self._has_new_citations = False
        self._next_save_at = 0.0
        self._has_text = False

    @property
    def text(self) -> str:
        """The answer so far."""
        return self.journal.text

    @property
    def is_save_due(self) -> bool:
        """Whether the journal has events that Postgres lacks, and the last save was long enough ago for its size."""
        return self._saved_id < self.journal.last_id and time.monotonic() >= self._next_save_at

    async def add_sources(self, sources: tuple[Source, ...]) -> None:
        """Write the sources and save them before any text: deletions find runs by their stored sources.

        Raises:
            LeaseLost: this owner has lost the run.
        """
        self.journal.add_sources(sources)
        if not await self.save():
            raise LeaseLost("this process no longer owns the run")
        self._event_log.publish_soon(self.journal)

    def add_text(self, text: str) -> None:
        """Write a piece of the answer."""
        if not self._has_text:
            self._has_text = True
            RUN_FIRST_TOKEN.observe(time.perf_counter() - self.begun_at)
        self.journal.add_text(text)
        self._event_log.publish(self.journal)

    def add_citation(self, citation: Citation) -> None:
        """Write a citation."""
        CITATIONS.labels("true" if citation.verified else "false", citation.support.verdict).inc()
        self.journal.add_citation(citation)
        self._event_log.publish(self.journal)

    def replace_citations(self, citations: tuple[Citation, ...]) -> None:
        """Replace all citations, in their order."""
        self.journal.replace_citations(citations)
        self._has_new_citations = True

    def add_usage(self, usage: TokenUsage) -> None:
        """Add the token usage of one model call; a run may need several."""
        self.usage = usage if self.usage is None else self.usage + usage

    async def save(self) -> bool:
        """Store the run so far; return False if this owner has lost it."""
        async with self._saving:
            return True if self.is_finishing else await self._save(self._progress())

    async def finish(self, outcome: Outcome) -> None:
        """Store the run's end, then publish it. While Postgres is unavailable, retry until the lease expires.

        A run that was taken over or deleted is left unchanged; its readers continue from Postgres.
        """
        self.is_finishing = True
        progress = self._progress(outcome)
        async with self._saving:
            is_saved = await self._save_with_retries(progress)
        end = await self._load_end() if is_saved else None
        if end is None:
            self.journal.lose()
            return
        self.journal.end = end
        self.journal.release(self.journal.last_id)
        self._event_log.publish(self.journal)

    async def _load_end(self) -> RunEnd | None:
        try:
            async with self._resources.pool.acquire() as conn:
                stored = await chat_runs.select_run_with_message(conn, self._workspace_id, self.journal.run_id)
        except (*DATABASE_TROUBLE, Overloaded):
            return None
        return end_of(*stored) if stored else None

    async def _save_with_retries(self, progress: RunProgress) -> bool:
        try:
            async with asyncio.timeout(self._resources.settings.answering.run_lease_s):
                while True:
                    try:
                        return await self._save(progress)
                    except (*DATABASE_TROUBLE, Overloaded) as error:
                        log.warning("run_not_saved", error=error)
                        await asyncio.sleep(SAVE_RETRY_S)
        except TimeoutError:
            return False

    async def _save(self, progress: RunProgress) -> bool:
        async with self._resources.pool.acquire() as conn:
            is_saved = await chat_runs.save_run(conn, progress, owner=self._owner)
        if is_saved:
            self._saved_id = progress.last_event_id
            self._next_save_at = time.monotonic() + _size_of(progress) / SAVED_BYTES_PER_S
            if progress.citations is not None:
                self._saved_citations = len(progress.citations)
            self.journal.release(min(self._saved_id, self.journal.last_id))
        return is_saved

    def _progress(self, outcome: Outcome | None = None) -> RunProgress:
        journal = self.journal
        citations = journal.citations
        return RunProgress(
            workspace_id=self._workspace_id,
            run_id=journal.run_id,
            last_event_id=journal.last_id + (outcome is not None),
            marks=journal.marks,
            content=journal.text,
            sources=journal.sources if self._saved_id == 1 else None,
            citations=citations if self._has_new_citations or len(citations) > self._saved_citations else None,
            status=outcome.status if outcome else RunStatus.RUNNING,
            model=self.model,
            usage=self.usage,
            finish_reason=outcome.finish_reason if outcome else None,
            error=outcome.error if outcome else None,
        )


def _size_of(progress: RunProgress) -> int:
    citations = CITATION_BYTES * len(progress.citations or ())
    return len(progress.content) + MARK_BYTES * len(progress.marks) + citations

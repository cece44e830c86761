"""Ends a run whose process died, and keeps the text that the process is known to have published."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import structlog

from ragsvc.answering.citations.restoring import read_markers, restore_citation
from ragsvc.db import chat_runs
from ragsvc.domain.chat.conversations import RunProgress, RunStatus
from ragsvc.queue.connection import REDIS_TROUBLE
from ragsvc.queue.run_streams import append_events, read_events
from ragsvc.runs.events import STORED_MARKER, MessageCitation, MessageDelta, decode_body
from ragsvc.runs.journal import Journal
from ragsvc.telemetry.metrics import RUNS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ragsvc.domain.chat.conversations import ChatRun
    from ragsvc.resources import Resources
    from ragsvc.runs.events import StreamedBody

log = structlog.get_logger(__name__)


async def end_lost_run(resources: Resources, run: ChatRun, *, sweeper: str) -> bool:
    """Store and publish the end of a run that `sweeper` has claimed; return False if it was deleted."""
    async with resources.pool.acquire() as conn:
        stored = await chat_runs.select_run_with_message(conn, run.workspace_id, run.id)
    if stored is None:
        return False
    journal = Journal.restore(*stored)
    saved_id = journal.last_id
    # The events after those that were redacted could contain more words of a deleted document.
    if not stored[1].redacted:
        await _add_streamed_events(resources, journal, workspace_id=run.workspace_id)
    has_more = journal.last_id > saved_id
    progress = RunProgress(
        workspace_id=run.workspace_id,
        run_id=run.id,
        last_event_id=journal.last_id + 1,
        marks=journal.marks,
        content=journal.text,
        sources=journal.sources if has_more else None,
        citations=journal.citations if has_more else None,
        status=RunStatus.CANCELLED if run.cancel_requested else RunStatus.INTERRUPTED,
        model=stored[1].model,
        usage=stored[1].usage,
    )
    async with resources.pool.acquire() as conn:
        is_saved = await chat_runs.save_run(conn, progress, owner=sweeper)
    if is_saved:
        RUNS.labels(progress.status, "").inc()
        log.warning("run_swept", run_id=run.id, status=progress.status, text_length=len(progress.content))
        await _append_end(resources, run.id, progress.last_event_id)
    return is_saved


async def _add_streamed_events(resources: Resources, journal: Journal, *, workspace_id: UUID) -> None:
    """Add the events that the owner appended to the stream after its last save.

    Redis is not trusted: only text is taken from it, and citations are made again from the sources in Postgres. What
    cannot be read, or cannot come next, is the end of what is known.
    """
    sources = journal.sources
    if sources is None:
        return
    bodies = [decode_body(content) for content in await _read_contents(resources, journal)]
    markers = read_markers(journal.text + _text_of(bodies))
    cited = len(journal.citations)
    free_chars = resources.settings.answering.max_answer_chars - journal.length
    for body in bodies:
        match body:
            case MessageDelta(text, offset) if offset == journal.length and len(text) <= free_chars:
                free_chars -= len(text)
                journal.add_text(text)
            case MessageCitation(claimed) if cited < len(markers) and markers[cited].offset < journal.length:
                marker = markers[cited]
                cited += 1
                journal.add_citation(
                    await restore_citation(resources, workspace_id, marker, claimed=claimed, sources=sources)
                )
            case _:
                return


def _text_of(bodies: Sequence[StreamedBody | None]) -> str:
    known = itertools.takewhile(lambda body: isinstance(body, (MessageDelta, MessageCitation)), bodies)
    return "".join(body.text for body in known if isinstance(body, MessageDelta))


async def _read_contents(resources: Resources, journal: Journal) -> list[bytes]:
    """Return the contents of the stream's entries that follow the journal's last event without a gap."""
    try:
        entries = await read_events(
            resources.redis, resources.settings.stores.queue_prefix, journal.run_id, after=journal.last_id
        )
    except REDIS_TROUBLE as error:
        log.warning("run_stream_unreadable", run_id=journal.run_id, error=error)
        return []
    numbered = enumerate(entries, journal.last_id + 1)
    return [content for _, (_, content) in itertools.takewhile(lambda one: one[0] == one[1][0], numbered)]


async def _append_end(resources: Resources, run_id: UUID, end_id: int) -> None:
    try:
        await append_events(
            resources.redis, resources.settings.stores.queue_prefix, {run_id: [(end_id, STORED_MARKER)]}
        )
    except REDIS_TROUBLE as error:
        # Readers will find the end in Postgres a little later.
        log.warning("run_end_not_appended", run_id=run_id, error=error)

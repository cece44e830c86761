"""The life of a run: an answer in progress, owned by one process and readable from all.

    begin_run, ──▶ running ─┬─ the answer is complete ──────────▶ completed    ┐
    retry_run     (leased)  ├─ the search or the model fails ───▶ failed       │ stored by the owner
                            ├─ cancel_run ──────────────────────▶ cancelled    │ (RunWriter.finish)
                            ├─ the owner's process stops ───────▶ interrupted  ┘
                            └─ the lease expires ───────────────▶ interrupted    stored by sweep_runs

A run that did not complete is retried as a new run for the same question. A run whose owner died after a cancellation
was requested ends as cancelled.

The owner renews the run's lease in Postgres and writes the events:

    Answerer ──▶ RunWriter ──▶ Journal ─┬─ EventLog ──▶ Redis stream   at once, many runs in a batch
                 (AnswerWriter)         └─ save_run ──▶ Postgres       every half second, and at the end

An event is released to readers once it is in Redis or Postgres, or at once while Redis is unavailable. Readers in the
owner's process follow its journal. Readers in other processes restore a journal from Postgres and continue with the
stream; without Redis they poll Postgres.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.answering.token_meter import load_meter
from ragsvc.db import chat_messages, chat_runs, chat_sessions
from ragsvc.domain.ids import new_id
from ragsvc.errors.requests import NotFound
from ragsvc.queue.run_tails import RunTails
from ragsvc.runs.event_log import EventLog
from ragsvc.runs.following import Follower
from ragsvc.runs.lost_runs import end_lost_run
from ragsvc.runs.owner import RunOwner
from ragsvc.tasks import cancel_and_wait
from ragsvc.telemetry.sweep_items import sweep_each

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from uuid import UUID

    from ragsvc.domain.chat.conversations import ChatMessage, ChatRun, RunStatus
    from ragsvc.resources import Resources
    from ragsvc.runs.events import RunEvent

# Maximum number of runs that one sweep ends; the next sweep continues.
SWEEP_BATCH = 100


@dataclass(frozen=True, slots=True)
class Runs:
    """The parts that a process needs to answer runs and to follow those of other processes."""

    resources: Resources
    owner: RunOwner
    follower: Follower


@asynccontextmanager
async def open_runs(resources: Resources) -> AsyncIterator[Runs]:
    """Open this process's runs; on exit, runs that are still in progress are interrupted and stored.

    Raises:
        StartupRefused: the tokenizer is unknown.
    """
    # Load the tokenizer now, in a thread, so that the first question does not wait for it.
    await asyncio.to_thread(load_meter, resources.settings)
    event_log = EventLog(resources)
    tails = RunTails(resources.redis, resources.settings.stores.queue_prefix)
    owner = RunOwner(resources, event_log)
    tasks = [asyncio.create_task(event_log.run()), asyncio.create_task(owner.supervise())]
    try:
        yield Runs(resources, owner, Follower(resources, owner, tails))
    finally:
        await owner.drain()
        await event_log.flush()
        await cancel_and_wait(*tasks)
        await tails.close()


async def cancel_run(runs: Runs, workspace_id: UUID, run_id: UUID) -> ChatRun:
    """Request a run's cancellation: an owner in this process acts at once, another one at its next lease renewal.

    A run that has ended is unchanged.

    Raises:
        NotFound: the run does not exist.
    """
    async with runs.resources.scoped_to(workspace_id).pool.acquire() as conn:
        run = await chat_runs.update_cancel_requested(conn, workspace_id, run_id)
    if run is None:
        raise NotFound
    runs.owner.cancel(run_id)
    return run


async def get_run(resources: Resources, workspace_id: UUID, run_id: UUID) -> ChatRun:
    """Return a run.

    Raises:
        NotFound: the run does not exist.
    """
    async with resources.pool.acquire() as conn:
        run = await chat_runs.select_run(conn, workspace_id, run_id)
    if run is None:
        raise NotFound
    return run


async def list_chat_runs(
    resources: Resources,
    workspace_id: UUID,
    *,
    session_id: UUID | None,
    status: RunStatus | None,
    before: UUID | None,
    limit: int,
) -> list[ChatRun]:
    """Return at most `limit` runs created before `before`, newest first; a filter of None matches every run.

    Raises:
        NotFound: there is no such session.
    """
    async with resources.pool.acquire() as conn:
        if session_id is not None and await chat_sessions.select_session(conn, workspace_id, session_id) is None:
            raise NotFound
        return await chat_runs.select_runs(
            conn, workspace_id, session_id=session_id, status=status, before=before, limit=limit
        )


def follow_run_in_batches(
    runs: Runs, workspace_id: UUID, run_id: UUID, *, after: int = 0
) -> AsyncGenerator[list[RunEvent], None]:
    """Return the events of a run after number `after`, up to its end, whichever process answers it.

    Events that arrive while the reader is busy come in one batch.
    """
    return runs.follower.follow(workspace_id, run_id, after=after)


async def follow_run(runs: Runs, workspace_id: UUID, run_id: UUID, *, after: int = 0) -> AsyncGenerator[RunEvent, None]:
    """Yield the events of `follow_run_in_batches` one by one."""
    async with aclosing(follow_run_in_batches(runs, workspace_id, run_id, after=after)) as batches:
        async for batch in batches:
            for event in batch:
                yield event


async def wait_for_answer(runs: Runs, workspace_id: UUID, run_id: UUID, *, message_id: UUID) -> ChatMessage:
    """Return the answer once its run has ended, whatever its status.

    Raises:
        NotFound: the session was deleted during the run.
    """
    async for _events in follow_run_in_batches(runs, workspace_id, run_id):
        pass
    async with runs.resources.scoped_to(workspace_id).pool.acquire() as conn:
        message = await chat_messages.select_message(conn, workspace_id, message_id)
    if message is None:
        raise NotFound
    return message


async def sweep_runs(resources: Resources) -> int:
    """Mark runs whose owner died as interrupted, or as cancelled if that was requested, and return their number."""
    sweeper = f"sweeper:{new_id().hex}"
    async with resources.pool.acquire() as conn:
        lost = await chat_runs.claim_lost_runs(
            conn, owner=sweeper, lease_s=resources.settings.answering.run_lease_s, limit=SWEEP_BATCH
        )

    async def end(run: ChatRun) -> None:
        await end_lost_run(resources, run, sweeper=sweeper)

    # A run that fails is claimed again when the sweeper's lease on it expires.
    return await sweep_each(lost, end, kind="run")

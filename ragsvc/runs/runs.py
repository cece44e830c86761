"""Runs in a process: what it answers, whom it lets follow, and the ending of runs whose process died."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.answering.token_meter import load_meter
from ragsvc.db import chat_messages, chat_runs, chat_sessions
from ragsvc.domain.ids import new_id
from ragsvc.errors import NotFound
from ragsvc.queue.run_tails import RunTails
from ragsvc.runs.event_log import EventLog
from ragsvc.runs.following import Follower
from ragsvc.runs.lost_runs import end_lost_run
from ragsvc.runs.owner import RunOwner
from ragsvc.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from uuid import UUID

    from ragsvc.domain.chat import ChatMessage, ChatRun, RunStatus
    from ragsvc.resources import Resources
    from ragsvc.runs.events import RunEvent

# A sweep ends at most so many runs; the next one goes on.
SWEEP_BATCH = 100


@dataclass(frozen=True, slots=True)
class Runs:
    """What a process needs to answer runs and to follow those of other processes."""

    resources: Resources
    owner: RunOwner
    follower: Follower


@asynccontextmanager
async def open_runs(resources: Resources) -> AsyncIterator[Runs]:
    """Be ready to answer; at the end, whatever is still being answered is interrupted and stored.

    Raises:
        StartupRefused: the tokenizer is unknown.
    """
    # Read here, beside the loop, and not while the first question waits.
    await asyncio.to_thread(load_meter, resources.settings)
    event_log = EventLog(resources)
    tails = RunTails(resources.redis, resources.settings.stores.queue_prefix)
    owner = RunOwner(resources, event_log)
    chores = [asyncio.create_task(event_log.run()), asyncio.create_task(owner.supervise())]
    try:
        yield Runs(resources, owner, Follower(resources, owner, tails))
    finally:
        await owner.drain()
        await event_log.flush()
        for chore in chores:
            await cancel_and_wait(chore)
        await tails.close()


async def cancel_run(runs: Runs, workspace_id: UUID, run_id: UUID) -> ChatRun:
    """Ask for a run's end; its owner hears of it at once, or, in another process, at its next save.

    A run that has ended stays as it ended.

    Raises:
        NotFound: there is no such run.
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
        NotFound: there is no such run.
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
    """Return at most `limit` runs created before `before`, newest first; None for a filter matches every run.

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
    """Return a run's events after number `after`, up to its end, wherever it is answered.

    Those that have come while the reader was busy are handed over at once.
    """
    return runs.follower.follow(workspace_id, run_id, after=after)


async def follow_run(runs: Runs, workspace_id: UUID, run_id: UUID, *, after: int = 0) -> AsyncGenerator[RunEvent, None]:
    """Yield a run's events one by one; otherwise like `follow_run_in_batches`."""
    async with aclosing(follow_run_in_batches(runs, workspace_id, run_id, after=after)) as batches:
        async for batch in batches:
            for event in batch:
                yield event


async def wait_for_answer(runs: Runs, workspace_id: UUID, run_id: UUID, *, message_id: UUID) -> ChatMessage:
    """Return the answer once its run has ended, in whatever way.

    Raises:
        NotFound: the session was deleted meanwhile.
    """
    async for _events in follow_run_in_batches(runs, workspace_id, run_id):
        pass
    async with runs.resources.scoped_to(workspace_id).pool.acquire() as conn:
        message = await chat_messages.select_message(conn, workspace_id, message_id)
    if message is None:
        raise NotFound
    return message


async def sweep_runs(resources: Resources) -> int:
    """End the runs whose owner died: interrupted, or cancelled where that was asked for; return how many."""
    sweeper = f"sweeper:{new_id().hex}"
    async with resources.pool.acquire() as conn:
        lost = await chat_runs.claim_lost_runs(
            conn, owner=sweeper, lease_s=resources.settings.answering.run_lease_s, limit=SWEEP_BATCH
        )
    return sum([await end_lost_run(resources, run, sweeper=sweeper) for run in lost])

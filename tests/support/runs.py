"""Follows, pauses and kills runs."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ragsvc.runs.events import MessageDelta, RunEvent
from ragsvc.runs.requests import begin_run
from ragsvc.runs.runs import Runs, follow_run
from tests.support.chat import ANSWER
from tests.support.polling import until
from tests.support.servers.model_server import Pause

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.runs.requests import BegunRun
    from tests.support.chat import Chat
    from tests.support.servers.model_server import ScriptedModels


class Reader:
    """Follows a run while it is in progress."""

    def __init__(self, chat: Chat, runs: Runs, run: BegunRun, *, after: int = 0) -> None:
        self.seen: list[RunEvent] = []
        self._task = asyncio.create_task(self._read(chat, runs, run, after))

    async def _read(self, chat: Chat, runs: Runs, run: BegunRun, after: int) -> None:
        async for event in follow_run(runs, chat.workspace_id, run.id, after=after):
            self.seen.append(event)

    async def has_seen(self, count: int) -> None:
        """Wait until `count` events have arrived."""
        await until(lambda: len(self.seen) >= count, what=f"event {count}")

    async def finish(self) -> list[RunEvent]:
        """Return all events once the run has ended."""
        await asyncio.wait_for(self._task, 20)
        return self.seen


def text_of(events: list[RunEvent]) -> str:
    """Return the text of the deltas."""
    return "".join(event.body.text for event in events if isinstance(event.body, MessageDelta))


@asynccontextmanager
async def paused(chat: Chat, scripted_models: ScriptedModels, runs: Runs) -> AsyncIterator[tuple[BegunRun, Pause]]:
    """Yield a run whose model has paused after eight words."""
    scripted_models.chat_text = ANSWER
    pause = Pause(after_deltas=8)
    scripted_models.chat.script(pause)
    run = await begin_run(runs, chat.workspace_id, chat.session.id, content="How long do refunds take?")
    await asyncio.wait_for(pause.reached.wait(), 10)
    yield run, pause
    pause.resumed.set()


async def kill(runs: Runs) -> None:
    """Stop a process's runs as if it had been killed: without an end event, and with expired leases."""
    for owned in list(runs.owner._runs.values()):
        assert owned.task is not None
        owned.task.cancel()
    await until(lambda: len(runs.owner) == 0)
    async with runs.resources.pool.acquire() as conn:
        await conn.execute(
            "UPDATE chat_runs SET lease_until = now() - interval '1 second' WHERE lease_owner = $1", runs.owner.name
        )

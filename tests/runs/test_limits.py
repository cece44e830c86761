"""Limits on the length and the time of one answer, and on how often it is saved."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from ragsvc.db import chat_runs
from ragsvc.domain.chat.conversations import RunStatus
from ragsvc.domain.ids import new_id
from ragsvc.runs.event_log import EventLog
from ragsvc.runs.events import MessageCompleted, RunFailed
from ragsvc.runs.writer import SAVED_BYTES_PER_S, RunWriter
from tests.support.chat import another_process
from tests.support.servers.model_server import Pause

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.settings.settings import Settings
    from tests.support.chat import Chat
    from tests.support.servers.model_server import ScriptedModels


async def test_an_answer_of_a_server_that_ignores_max_tokens_ends(
    chat: Chat, settings: Settings, scripted_models: ScriptedModels
) -> None:
    scripted_models.chat_text = "never ending " * 1000
    async with _limited(chat, scripted_models.applied_to(settings), max_output_tokens=3) as limited:
        run = await limited.ask()
        end = (await limited.events(run))[-1].body
        _run, message = await limited.stored(run)
    assert scripted_models.chat.requests[-1]["max_tokens"] == 3
    assert isinstance(end, MessageCompleted)
    assert end.finish_reason == "length"
    assert message.content == scripted_models.chat_text[: 3 * 8]
    assert message.usage is not None


async def test_an_answer_that_takes_too_long_ends_and_keeps_its_text(
    chat: Chat, settings: Settings, scripted_models: ScriptedModels
) -> None:
    scripted_models.chat_text = "Slowly does it."
    scripted_models.chat.script(Pause(after_deltas=1))
    async with _limited(chat, scripted_models.applied_to(settings), max_run_s=1.0) as limited:
        run = await limited.ask()
        end = (await limited.events(run))[-1].body
        stored, _message = await limited.stored(run)
        assert not len(limited.runs.owner)
    assert isinstance(end, RunFailed)
    assert (end.code, end.retryable) == ("run_timeout", True)
    assert stored.status is RunStatus.FAILED


async def test_a_long_answer_is_saved_less_often(chat: Chat) -> None:
    run_id, answer_id = new_id(), new_id()
    async with chat.runs.resources.pool.acquire() as conn:
        await chat_runs.insert_run(
            conn,
            chat.workspace_id,
            chat.session.id,
            run_id=run_id,
            question_id=new_id(),
            answer_id=answer_id,
            question="How long?",
            request={},
            owner="me",
            lease_s=600.0,
            models=(),
        )
    writer = RunWriter(
        chat.runs.resources,
        EventLog(chat.runs.resources),
        workspace_id=chat.workspace_id,
        run_id=run_id,
        message_id=answer_id,
        owner="me",
    )
    await writer.add_sources(())
    writer.add_text("x" * SAVED_BYTES_PER_S * 600)
    was_due = writer.is_save_due
    assert await writer.save()
    writer.add_text("y")
    assert (was_due, writer.is_save_due) == (True, False)
    assert await writer.save()
    async with chat.runs.resources.pool.acquire() as conn:
        stored = await chat_runs.select_run_with_message(conn, chat.workspace_id, run_id)
    assert stored is not None
    assert stored[1].content.endswith("xy")


@asynccontextmanager
async def _limited(chat: Chat, settings: Settings, **changes: object) -> AsyncIterator[Chat]:
    """Open the chat in a process with changed settings."""
    async with another_process(settings.changed(changes)) as runs:
        yield replace(chat, runs=runs)

"""Tests of removing a deleted document's text from chats: ids and spans remain, and no running answer restores it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from ragsvc.db import chat_messages, chat_runs
from ragsvc.deletion import run_streams
from ragsvc.deletion.requests import request_document_deletion, request_workspace_deletion
from ragsvc.domain.chat.conversations import RunProgress, RunStatus
from ragsvc.domain.chat.redaction import BLANK
from ragsvc.queue.run_streams import CLOSED, append_events, count_streams, read_events
from ragsvc.runs.events import MessageCitation, MessageDelta, RunInterrupted
from tests.support.chat import ANSWER, another_process, bodies
from tests.support.documents.deletions import Killed, removed_counts, run_deletion, run_deletion_until_killed
from tests.support.polling import until
from tests.support.servers.model_server import Pause

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.settings.settings import Settings
    from tests.support.chat import Chat
from tests.support.servers.model_server import ScriptedModels


async def redact(chat: Chat, document_id: UUID, *, limit: int = 1000) -> int:
    """Redact a document as its deletion does, and return the number of messages changed."""
    async with chat.runs.resources.pool.acquire() as conn, conn.transaction():
        await chat_runs.interrupt_runs(conn, chat.workspace_id, document_id)
        return await chat_messages.redact_document(conn, chat.workspace_id, document_id, limit=limit)


async def unredacted(chat: Chat, document_id: UUID) -> int:
    """Return the number of messages that contain text of the document."""
    async with chat.runs.resources.pool.acquire() as conn:
        return await chat_messages.count_unredacted(conn, chat.workspace_id, document_id)


async def test_words_are_blanked_and_spans_remain(chat: Chat, scripted_models: ScriptedModels) -> None:
    scripted_models.chat_text = ANSWER
    run = await chat.ask()
    await chat.events(run)
    before = (await chat.stored(run))[1]
    assert await unredacted(chat, chat.shipping) == 1
    assert await redact(chat, chat.shipping) == 1
    assert await unredacted(chat, chat.shipping) == 0
    assert await redact(chat, chat.shipping) == 0
    after = (await chat.stored(run))[1]
    assert after.citations[0] == before.citations[0]
    blanked = after.citations[1]
    assert (blanked.quote, blanked.filename, blanked.heading_path, blanked.verified) == ("", "", (), False)
    assert (blanked.document_id, blanked.char_start) == (chat.shipping, before.citations[1].char_start)
    assert after.citations[2] == before.citations[2]
    source = next(source for source in after.sources if source.document_id == chat.shipping)
    assert (source.filename, source.heading_path) == ("", ())
    sentence = "Shipping is free above 80 euros [2]."
    assert after.content == ANSWER.replace(sentence, f"{BLANK * 32}[2]{BLANK}")
    assert (before.redacted, after.redacted) == (False, True)


async def test_quotes_are_hidden_as_soon_as_a_deletion_is_acknowledged(
    chat: Chat, scripted_models: ScriptedModels
) -> None:
    scripted_models.chat_text = ANSWER
    run = await chat.ask()
    before = await chat.events(run)
    await chat.library.begin_deleting(chat.shipping)
    assert await unredacted(chat, chat.shipping) == 1
    message = (await chat.stored(run))[1]
    assert [(one.document_id == chat.shipping, one.quote == "") for one in message.citations[:2]] == [
        (False, False),
        (True, True),
    ]
    assert [source.heading_path for source in message.sources if source.document_id == chat.shipping] == [()]
    async with chat.runs.resources.pool.acquire() as conn:
        listed = await chat_messages.select_messages(conn, chat.workspace_id, chat.session.id, limit=10)
    assert listed[-1] == message
    again = bodies(await chat.events(run), MessageCitation)
    assert [body.citation for body in again] == list(message.citations)  # type: ignore[attr-defined]
    assert len(again) == len(bodies(before, MessageCitation))


async def test_messages_of_another_workspace_are_unchanged(chat: Chat, scripted_models: ScriptedModels) -> None:
    scripted_models.chat_text = ANSWER
    await chat.events(await chat.ask())
    async with chat.runs.resources.pool.acquire() as conn:
        assert await chat_messages.redact_document(conn, chat.session.id, chat.shipping, limit=10) == 0
    assert await unredacted(chat, chat.shipping) == 1


async def test_redaction_proceeds_in_bounded_batches(chat: Chat, scripted_models: ScriptedModels) -> None:
    scripted_models.chat_text = ANSWER
    for _ in range(3):
        await chat.events(await chat.ask())
    assert [await redact(chat, chat.refunds, limit=2) for _ in range(3)] == [2, 1, 0]


@pytest.mark.parametrize("deltas", [1, 4, 8])
async def test_an_answer_from_a_deleted_document_is_ended(
    chat: Chat, scripted_models: ScriptedModels, settings: Settings, deltas: int
) -> None:
    scripted_models.chat_text = ANSWER
    pause = Pause(after_deltas=deltas)
    scripted_models.chat.script(pause)
    run = await chat.ask()
    await asyncio.wait_for(pause.reached.wait(), 10)
    await run_deletion(
        chat.runs.resources,
        await request_document_deletion(chat.runs.resources, chat.workspace_id, chat.refunds, purge_file=False),
    )
    pause.resumed.set()
    events = await chat.events(run)
    assert isinstance(events[-1].body, RunInterrupted)
    stored, message = await chat.stored(run)
    assert (stored.status, message.status) == (RunStatus.INTERRUPTED, "interrupted")
    assert "Refunds" not in message.content
    assert await unredacted(chat, chat.refunds) == 0
    async with another_process(scripted_models.applied_to(settings)) as other:
        again = await chat.events(run, runs=other)
    assert isinstance(again[-1].body, RunInterrupted)
    assert "Refunds" not in "".join(body.text for body in bodies(again, MessageDelta))  # type: ignore[attr-defined]


async def test_an_answer_does_not_begin_from_a_document_deleted_meanwhile(chat: Chat) -> None:
    run = await chat.ask()
    await chat.events(run)
    _stored, message = await chat.stored(run)
    late = await chat.ask()
    await chat.events(late)
    async with chat.runs.resources.pool.acquire() as conn, conn.transaction():
        await conn.execute(
            "UPDATE chat_runs SET status = 'running', lease_owner = 'owner', lease_until = now() WHERE id = $1", late.id
        )
        await conn.execute(
            "UPDATE chat_messages SET content = '', sources = '[]', citations = '[]' WHERE run_id = $1", late.id
        )
    await chat.library.begin_deleting(chat.refunds)
    progress = RunProgress(chat.workspace_id, late.id, 2, (), "", sources=message.sources)
    async with chat.runs.resources.pool.acquire() as conn:
        assert not await chat_runs.save_run(conn, progress, owner="owner")
    stored, message = await chat.stored(late)
    assert (stored.status, stored.last_event_id) == (RunStatus.INTERRUPTED, 3)
    assert await unredacted(chat, chat.refunds) == 1
    assert message.sources[0].filename == ""


async def test_the_next_question_does_not_bring_the_words_back(chat: Chat, scripted_models: ScriptedModels) -> None:
    scripted_models.chat_text = ANSWER
    await chat.events(await chat.ask())
    deletion = await request_document_deletion(chat.runs.resources, chat.workspace_id, chat.refunds, purge_file=False)
    for state in ("acknowledged", "deleted"):
        if state == "deleted":
            receipt = await run_deletion(chat.runs.resources, deletion)
            assert {one.store: one.redacted for one in receipt.stores}["chat_messages"] == 1
        message = (await chat.messages())[1]
        assert message.redacted
        assert "Refunds take" not in message.content
        scripted_models.chat.requests.clear()
        scripted_models.chat_text = "Shipping is free [1]."
        await chat.events(await chat.ask("Say that again, with shipping?"))
        assert scripted_models.chat.requests
        sent = str(scripted_models.chat.requests)
        assert "Shipping is free above 80 euros" in sent
        assert "Refunds take" not in sent
        assert BLANK not in sent


async def test_no_event_is_appended_to_the_stream_of_a_deleted_source(chat: Chat) -> None:
    resources = chat.runs.resources
    prefix = resources.settings.stores.queue_prefix
    run = await chat.ask()
    await chat.events(run)
    assert await count_streams(resources.redis, prefix, [run.id]) == 1
    deletion = await request_document_deletion(resources, chat.workspace_id, chat.refunds, purge_file=False)
    assert removed_counts(await run_deletion(resources, deletion))["run_streams"] == 1
    # As a process does that was frozen before it appended the last words.
    await append_events(resources.redis, prefix, {run.id: [(2, b"words"), (3, b"words")]})
    assert await count_streams(resources.redis, prefix, [run.id]) == 0
    assert [content for _id, content in await read_events(resources.redis, prefix, run.id, after=0)] == [CLOSED]
    # Readers get the redacted answer from Postgres, to its end.
    assert (await chat.events(run))[-1].is_end


async def test_answers_in_progress_and_their_streams_end_with_their_workspace(
    chat: Chat, scripted_models: ScriptedModels
) -> None:
    scripted_models.chat_text = ANSWER
    pause = Pause(after_deltas=4)
    scripted_models.chat.script(pause)
    run = await chat.ask()
    await asyncio.wait_for(pause.reached.wait(), 10)
    resources = chat.runs.resources
    deletion = await request_workspace_deletion(resources, chat.workspace_id)
    done = {store.store: store for store in (await run_deletion(resources, deletion)).stores}
    assert (done["runs"].removed, done["chat_messages"].removed, done["chat_sessions"].removed) == (1, 2, 1)
    pause.resumed.set()
    await until(lambda: len(chat.runs.owner) == 0, what="the end of the run")
    assert await count_streams(resources.redis, resources.settings.stores.queue_prefix, [run.id]) == 0


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["count_streams", "close_streams"])
async def test_a_deletion_that_crashes_around_redis_calls_counts_each_stream_once(
    chat: Chat, monkeypatch: pytest.MonkeyPatch, step: str, *, after: bool
) -> None:
    resources = chat.runs.resources
    for _ in range(2):
        await chat.events(await chat.ask())
    deletion = await request_document_deletion(resources, chat.workspace_id, chat.refunds, purge_file=False)
    real = getattr(run_streams, step)

    async def die(*arguments: Any) -> None:
        if after:
            await real(*arguments)
        raise Killed

    with monkeypatch.context() as patches:
        patches.setattr(run_streams, step, die)
        assert await run_deletion_until_killed(resources, deletion)
    assert removed_counts(await run_deletion(resources, deletion))["run_streams"] == 2

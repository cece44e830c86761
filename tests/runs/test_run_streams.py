"""Tests of following a run from any process: with Redis, after data loss in Redis, and without Redis."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import orjson
import pytest
from pydantic import SecretStr

from ragsvc.devstack.ports import free_ports
from ragsvc.domain.chat.citations import Verdict
from ragsvc.domain.chat.conversations import RunStatus
from ragsvc.queue.run_streams import EVENTS_TTL_S, read_events, run_key
from ragsvc.runs.events import MessageCompleted, MessageDelta, RetrievalCompleted, RunEvent, RunInterrupted
from ragsvc.runs.requests import begin_run, retry_run
from ragsvc.runs.runs import Runs, follow_run, sweep_runs
from tests.support.chat import ANSWER, another_process, check_order
from tests.support.polling import until
from tests.support.servers.model_server import Pause

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.domain.chat.conversations import ChatMessage, ChatRun
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


async def test_readers_in_all_processes_see_the_same_events(chat: Chat, scripted_models: ScriptedModels) -> None:
    settings = chat.runs.resources.settings
    async with (
        another_process(settings) as elsewhere,
        paused(chat, scripted_models, chat.runs) as (run, pause),
    ):
        readers = [Reader(chat, runs, run) for runs in (chat.runs, chat.runs, elsewhere, elsewhere)]
        for reader in readers:
            await reader.has_seen(10)
        pause.resumed.set()
        streams = [await reader.finish() for reader in readers]
        late = await chat.events(run, runs=elsewhere)
    check_order(streams[0])
    assert text_of(streams[0]) == ANSWER
    assert all(stream == streams[0] for stream in [*streams, late])


async def test_readers_in_all_processes_see_the_sources_before_any_text(
    chat: Chat, scripted_models: ScriptedModels
) -> None:
    pause = Pause()
    scripted_models.chat.script(pause)
    run = await begin_run(chat.runs, chat.workspace_id, chat.session.id, content="How long do refunds take?")
    async with another_process(chat.runs.resources.settings) as elsewhere:
        readers = [Reader(chat, runs, run) for runs in (chat.runs, elsewhere)]
        for reader in readers:
            await reader.has_seen(2)
            assert isinstance(reader.seen[1].body, RetrievalCompleted)
        assert not pause.resumed.is_set()
        pause.resumed.set()
        streams = [await reader.finish() for reader in readers]
    assert streams[0] == streams[1]


async def test_a_reader_resumes_after_its_last_event(chat: Chat, scripted_models: ScriptedModels) -> None:
    async with (
        another_process(chat.runs.resources.settings) as elsewhere,
        paused(chat, scripted_models, chat.runs) as (run, pause),
    ):
        first = Reader(chat, elsewhere, run)
        await first.has_seen(6)
        resumed = [Reader(chat, runs, run, after=6) for runs in (chat.runs, elsewhere)]
        pause.resumed.set()
        whole = await first.finish()
        assert [await reader.finish() for reader in resumed] == [whole[6:], whole[6:]]
    for after in range(len(whole) + 1):
        assert await chat.events(run, after=after) == whole[after:]


async def test_an_emptied_redis_loses_no_text(chat: Chat, scripted_models: ScriptedModels) -> None:
    resources = chat.runs.resources
    async with (
        another_process(resources.settings) as elsewhere,
        paused(chat, scripted_models, chat.runs) as (run, pause),
    ):
        readers = [Reader(chat, runs, run) for runs in (chat.runs, elsewhere)]
        for reader in readers:
            await reader.has_seen(10)
        await resources.redis.unlink(run_key(resources.settings.stores.queue_prefix, run.id))
        late = Reader(chat, elsewhere, run)
        pause.resumed.set()
        streams = [await reader.finish() for reader in [*readers, late]]
    check_order(streams[0])
    assert text_of(streams[0]) == ANSWER
    assert streams[1] == streams[2] == streams[0]


async def test_events_of_an_expired_stream_come_from_postgres(chat: Chat, scripted_models: ScriptedModels) -> None:
    scripted_models.chat_text = ANSWER
    run = await chat.ask()
    events = await chat.events(run)
    resources = chat.runs.resources
    await resources.redis.unlink(run_key(resources.settings.stores.queue_prefix, run.id))
    async with another_process(resources.settings) as elsewhere:
        assert await chat.events(run, runs=elsewhere) == events
        assert await chat.events(run, runs=elsewhere, after=5) == events[5:]


async def test_the_stream_is_complete_and_expires(chat: Chat) -> None:
    run = await chat.ask()
    events = await chat.events(run)
    resources = chat.runs.resources
    key = run_key(resources.settings.stores.queue_prefix, run.id)

    async def appended() -> list[int]:
        stored = await read_events(resources.redis, resources.settings.stores.queue_prefix, run.id, after=0)
        return [event_id for event_id, _content in stored]

    async def is_whole() -> bool:
        return await appended() == [event.id for event in events]

    await until(is_whole)
    assert 0 < await resources.redis.ttl(key) <= EVENTS_TTL_S


async def test_runs_can_be_followed_without_redis(chat: Chat, scripted_models: ScriptedModels) -> None:
    settings = chat.runs.resources.settings
    away = settings.changed({"redis_url": SecretStr(f"redis://127.0.0.1:{free_ports(1)[0]}/0")})
    async with (
        another_process(away) as owner,
        another_process(away) as elsewhere,
        paused(chat, scripted_models, owner) as (run, pause),
    ):
        readers = [Reader(chat, runs, run) for runs in (owner, elsewhere)]
        for reader in readers:
            await reader.has_seen(10)
        pause.resumed.set()
        streams = [await reader.finish() for reader in readers]
    check_order(streams[0])
    assert text_of(streams[0]) == ANSWER
    assert streams[1] == streams[0]


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


async def test_the_run_of_a_dead_owner_is_interrupted_with_all_published_events(
    chat: Chat, scripted_models: ScriptedModels
) -> None:
    async with (
        another_process(chat.runs.resources.settings) as owner,
        paused(chat, scripted_models, owner) as (run, _pause),
    ):
        remote = Reader(chat, chat.runs, run)
        await remote.has_seen(10)
        await kill(owner)
        assert await sweep_runs(chat.runs.resources) == 1
        assert await sweep_runs(chat.runs.resources) == 0
        events = await remote.finish()
    check_order(events)
    assert events[-1].body == RunInterrupted(len(text_of(events)))
    stored, message = await chat.stored(run)
    assert (stored.status, message.status) == (RunStatus.INTERRUPTED, "interrupted")
    assert message.content == text_of(events)
    assert message.content.startswith("Refunds take 14 days [1].")
    assert await chat.events(run) == events
    again = await retry_run(chat.runs, chat.workspace_id, run.id)
    end = (await chat.events(again))[-1].body
    assert isinstance(end, MessageCompleted)
    assert end.message.content == ANSWER


async def test_unsaved_text_of_a_dead_owner_is_recovered_from_the_stream(
    chat: Chat, scripted_models: ScriptedModels
) -> None:
    resources = chat.runs.resources
    async with (
        another_process(resources.settings) as owner,
        paused(chat, scripted_models, owner) as (run, _pause),
    ):
        remote = Reader(chat, chat.runs, run)
        await remote.has_seen(10)
        await kill(owner)
        async with resources.pool.acquire() as conn:
            await conn.execute(
                "UPDATE chat_runs SET last_event_id = 3, marks = '{8}' WHERE id = $1",
                run.id,
            )
            await conn.execute(
                "UPDATE chat_messages SET content = 'Refunds ', citations = '[]' WHERE id = $1", run.answer_id
            )
        assert await sweep_runs(resources) == 1
        events = await remote.finish()
    check_order(events)
    _run, message = await chat.stored(run)
    assert message.content == text_of(events)
    assert len(message.content) > len("Refunds ")
    assert len(message.citations) == 1


async def test_the_sweeper_skips_runs_with_a_valid_lease(chat: Chat, scripted_models: ScriptedModels) -> None:
    async with paused(chat, scripted_models, chat.runs) as (run, pause):
        assert await sweep_runs(chat.runs.resources) == 0
        pause.resumed.set()
        assert isinstance((await chat.events(run))[-1].body, MessageCompleted)


async def test_an_owner_that_lost_a_run_stops_answering_it(chat: Chat, scripted_models: ScriptedModels) -> None:
    resources = chat.runs.resources
    async with paused(chat, scripted_models, chat.runs) as (run, _pause):
        local = Reader(chat, chat.runs, run)
        await local.has_seen(10)
        async with resources.pool.acquire() as conn:
            await conn.execute(
                "UPDATE chat_runs SET lease_until = now() - interval '1 second', lease_owner = 'somebody else'"
                " WHERE id = $1",
                run.id,
            )
        assert await sweep_runs(resources) == 1
        events = await local.finish()
        await until(lambda: len(chat.runs.owner) == 0)
    check_order(events)
    assert isinstance(events[-1].body, RunInterrupted)
    assert (await chat.stored(run))[0].status is RunStatus.INTERRUPTED


async def test_the_text_so_far_is_saved_while_the_model_answers(chat: Chat, scripted_models: ScriptedModels) -> None:
    async with paused(chat, scripted_models, chat.runs) as (run, _pause):

        async def saved() -> tuple[ChatRun, ChatMessage] | None:
            stored, message = await chat.stored(run)
            return (stored, message) if message.citations else None

        stored, message = await until(saved)
        assert ANSWER.startswith(message.content)
        assert message.status == "streaming"
        assert sum(stored.marks) == len(message.content)
        assert [citation.n for citation in message.citations] == [1]


async def test_leases_are_renewed_while_a_save_hangs(
    chat: Chat, scripted_models: ScriptedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    resources = chat.runs.resources
    settings = resources.settings.changed({"run_lease_s": 3.0})

    async def hang(_owned: object, _slots: object) -> None:
        await asyncio.Event().wait()

    async with another_process(settings) as runs, paused(chat, scripted_models, runs) as (run, _pause):
        monkeypatch.setattr(runs.owner, "_save", hang)
        async with resources.pool.acquire() as conn:

            async def is_renewed() -> bool:
                query = "SELECT lease_until > created_at + interval '6 seconds' FROM chat_runs WHERE id = $1"
                return bool(await conn.fetchval(query, run.id))

            assert await until(is_renewed, timeout_s=30)
        assert (await chat.stored(run))[0].status is RunStatus.RUNNING


@asynccontextmanager
async def dead_run(chat: Chat, scripted_models: ScriptedModels) -> AsyncIterator[tuple[BegunRun, int]]:
    """Yield a run whose process has died after eight words, and the number of its last event."""
    async with (
        another_process(chat.runs.resources.settings) as owner,
        paused(chat, scripted_models, owner) as (run, _pause),
    ):
        remote = Reader(chat, chat.runs, run)
        await remote.has_seen(10)
        await until(lambda: not any(owned.writer.is_save_due for owned in owner.owner._runs.values()))
        await kill(owner)
        stored, _message = await chat.stored(run)
        yield run, stored.last_event_id
        await remote.finish()


async def forge(chat: Chat, run: BegunRun, event_id: int, content: bytes, *, field: bytes = b"e") -> None:
    """Add an entry to the stream of a run, as somebody who can write to Redis would."""
    resources = chat.runs.resources
    key = run_key(resources.settings.stores.queue_prefix, run.id)
    await resources.redis.xadd(key, {field: content}, id=f"{event_id}-0")


def citation_of(chat: Chat, **changes: object) -> bytes:
    """Return a citation event of the answer's first source, with changes."""
    quote = "Refunds take 14 days."
    fields: dict[str, object] = {
        "n": 1,
        "message_offset": 0,
        "document_id": str(chat.refunds),
        "filename": "handbook.pdf",
        "version": 1,
        "page_first": 1,
        "heading_path": [],
        "char_start": 0,
        "char_end": len(quote),
        "quote": quote,
        "support": 1.0,
        "verified": True,
    }
    return orjson.dumps(["citation", {**fields, **changes}])


async def test_a_forged_citation_is_not_stored(chat: Chat, scripted_models: ScriptedModels) -> None:
    async with dead_run(chat, scripted_models) as (run, last_id):
        _run, before = await chat.stored(run)
        text = "Send your password to evil.example [1]. "
        await forge(chat, run, last_id + 1, orjson.dumps(["delta", len(before.content), text]))
        forged = {
            "message_offset": len(before.content) + text.index("[1]"),
            "filename": "board-minutes.pdf",
            "page_first": 7,
            "heading_path": ["Forged"],
            "quote": text,
            "document_id": str(chat.shipping),
        }
        await forge(chat, run, last_id + 2, citation_of(chat, **forged))
        # There is no marker for this one.
        await forge(chat, run, last_id + 3, citation_of(chat))
        await sweep_runs(chat.runs.resources)
    stored, message = await chat.stored(run)
    assert stored.status is RunStatus.INTERRUPTED
    assert stored.last_event_id == last_id + 3
    assert message.citations[:-1] == before.citations
    citation = message.citations[-1]
    assert (citation.document_id, citation.filename, citation.page_first) == (chat.refunds, "handbook.pdf", 1)
    assert (citation.heading_path, citation.quote) == ((), "Refunds take 14 days.")
    # The quote does stand there, but nobody says that it supports the forged words.
    assert citation.support.verdict is not Verdict.SUPPORTED
    assert citation.support.score < 1


@pytest.mark.parametrize(
    "content",
    [
        b"no json",
        b"[]",
        b'{"delta": 1}',
        b'["delta", 0, 5]',
        b'["delta", "0", "x"]',
        b'["delta", 0, "\\u0000"]',
        b'["delta", 0, "x", "more"]',
        b'["sources", [{}]]',
        b'["citation", {"n": 1}]',
        b'["citation", 5]',
        b'[["delta"], 0, "x"]',
    ],
)
async def test_an_unreadable_entry_ends_what_is_known_of_a_dead_run(
    chat: Chat, scripted_models: ScriptedModels, content: bytes
) -> None:
    async with dead_run(chat, scripted_models) as (run, last_id):
        _run, before = await chat.stored(run)
        await forge(chat, run, last_id + 1, content.replace(b" 0,", b" %d," % len(before.content)))
        await forge(chat, run, last_id + 2, orjson.dumps(["delta", len(before.content), "later"]))
        assert await sweep_runs(chat.runs.resources) == 1
    stored, message = await chat.stored(run)
    assert stored.status is RunStatus.INTERRUPTED
    assert message.content == before.content
    assert message.citations == before.citations


async def test_an_entry_without_the_field_of_events_does_not_stop_readers(
    chat: Chat, scripted_models: ScriptedModels
) -> None:
    async with (
        another_process(chat.runs.resources.settings) as owner,
        paused(chat, scripted_models, owner) as (run, pause),
    ):
        reader = Reader(chat, chat.runs, run)
        await reader.has_seen(10)
        await forge(chat, run, len(reader.seen) + 5, b"x", field=b"other")
        pause.resumed.set()
        events = await reader.finish()
    check_order(events)
    assert isinstance(events[-1].body, MessageCompleted)
    assert text_of(events) == ANSWER

"""Tests of following a run from any process: with Redis, after data loss in Redis, and without Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pydantic import SecretStr

from ragsvc.devstack.ports import free_ports
from ragsvc.domain.chat.conversations import RunStatus
from ragsvc.queue.run_streams import EVENTS_TTL_S, read_events, run_key
from ragsvc.runs.events import MessageCompleted, RetrievalCompleted, RunInterrupted
from ragsvc.runs.requests import begin_run, retry_run
from ragsvc.runs.runs import sweep_runs
from tests.support.chat import ANSWER, another_process, check_order
from tests.support.polling import until
from tests.support.runs import Reader, kill, paused, text_of
from tests.support.servers.model_server import Pause

if TYPE_CHECKING:
    import pytest

    from ragsvc.domain.chat.conversations import ChatMessage, ChatRun
    from tests.support.chat import Chat
    from tests.support.servers.model_server import ScriptedModels


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

"""Tests of runs from question to end: events, answers and failures."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ragsvc.abstention import NO_ANSWER_TEXT, NO_ANSWER_TEXTS, read_instruction
from ragsvc.db import chat_sessions
from ragsvc.domain.chat.citations import Citation, Support, Verdict
from ragsvc.domain.chat.conversations import RunStatus, TokenUsage
from ragsvc.domain.ids import new_id
from ragsvc.errors.requests import NotFound, RunActive, RunNotRetryable
from ragsvc.retrieval.filters import Comparator, Comparison
from ragsvc.runs.events import (
    MessageCitation,
    MessageCompleted,
    MessageDelta,
    RetrievalCompleted,
    RunCancelled,
    RunFailed,
    RunInterrupted,
    RunStarted,
)
from ragsvc.runs.requests import begin_run, retry_run
from ragsvc.runs.runs import cancel_run, follow_run, open_runs, wait_for_answer
from tests.support.chat import ANSWER, REFUNDS, another_process, bodies, check_order
from tests.support.polling import until
from tests.support.servers.model_server import Cut, Fail, Pause, Reply, StreamError

if TYPE_CHECKING:
    from ragsvc.runs.requests import BegunRun
    from ragsvc.runs.runs import Runs
    from tests.support.chat import Chat
    from tests.support.servers.model_server import Behaviour, ScriptedModels


async def wait_for_events(chat: Chat, run: BegunRun, count: int, *, runs: Runs | None = None) -> None:
    """Follow a run until `count` events have arrived."""
    async with aclosing(follow_run(runs or chat.runs, chat.workspace_id, run.id)) as events:
        async for event in events:
            if event.id == count:
                return


async def test_a_run_has_events_for_start_sources_text_citations_and_end(
    chat: Chat, scripted_models: ScriptedModels
) -> None:
    scripted_models.chat_text = ANSWER
    run = await chat.ask()
    events = await chat.events(run)
    check_order(events)
    assert events[0].body == RunStarted(run.answer_id)
    assert isinstance(events[1].body, RetrievalCompleted)
    assert [source.n for source in events[1].body.sources] == [1, 2]
    assert events[1].body.sources[0].document_id == chat.refunds
    assert "".join(event.body.text for event in events if isinstance(event.body, MessageDelta)) == ANSWER
    end = events[-1].body
    assert isinstance(end, MessageCompleted)
    assert end.finish_reason == "stop"
    assert (end.message.content, end.message.status, end.message.model) == (ANSWER, "completed", "scripted")
    assert end.message.usage == TokenUsage(7, 17)
    assert [MessageCitation(citation) for citation in end.message.citations] == bodies(events, MessageCitation)


async def test_citations_have_quotes_spans_and_verification(chat: Chat, scripted_models: ScriptedModels) -> None:
    scripted_models.chat_text = ANSWER
    run = await chat.ask()
    refund, shipping, nowhere = [body.citation for body in bodies(await chat.events(run), MessageCitation)]  # type: ignore[attr-defined]
    assert refund == Citation(
        n=1,
        message_offset=ANSWER.index("[1]"),
        document_id=chat.refunds,
        filename="handbook.pdf",
        version=1,
        page_first=1,
        char_start=0,
        char_end=len("Refunds take 14 days."),
        quote="Refunds take 14 days.",
        support=Support(1.0, Verdict.SUPPORTED),
        verified=True,
    )
    assert (shipping.document_id, shipping.heading_path) == (chat.shipping, ("Shop", "Delivery"))
    assert shipping.quote == "Shipping is free above 50 euros."
    assert shipping.verified
    assert nowhere == Citation(n=7, message_offset=ANSWER.index("[7]"))


async def test_both_messages_are_in_the_session(chat: Chat) -> None:
    run = await chat.ask("How long do refunds take?")
    await chat.events(run)
    question, answer = await chat.messages()
    assert (question.id, question.role, question.status) == (run.question_id, "user", "completed")
    assert question.content == "How long do refunds take?"
    assert (answer.id, answer.role, answer.run_id) == (run.answer_id, "assistant", run.id)
    stored, _message = await chat.stored(run)
    assert (stored.status, stored.finish_reason, stored.error) == (RunStatus.COMPLETED, "stop", None)
    assert stored.finished_at is not None


async def test_the_prompt_contains_history_instructions_and_sources(
    chat: Chat, scripted_models: ScriptedModels
) -> None:
    session = replace(chat.session, instructions="Be brief.", model="special")
    async with chat.runs.resources.pool.acquire() as conn:
        await chat_sessions.update_session(conn, session)
    await chat.events(await chat.ask("How long do refunds take?"))
    await chat.events(await chat.ask("And shipping?"))
    asked = scripted_models.chat.requests[-1]
    assert asked["model"] == "special"
    assert [message["role"] for message in asked["messages"]] == ["system", "user", "assistant", "user"]
    assert asked["messages"][0]["content"].endswith("Be brief.")
    assert asked["messages"][1]["content"] == "How long do refunds take?"
    assert asked["messages"][2]["content"] == "The scripted model says hello."
    assert REFUNDS in asked["messages"][3]["content"]
    assert asked["messages"][3]["content"].endswith("Question: And shipping?")


async def test_without_sources_the_model_is_not_called(chat: Chat, scripted_models: ScriptedModels) -> None:
    run = await begin_run(
        chat.runs,
        chat.workspace_id,
        chat.session.id,
        content="How long?",
        filters=Comparison(Comparator.EQ, "lang", "xx"),
    )
    events = await chat.events(run)
    assert [type(event.body) for event in events] == [RunStarted, RetrievalCompleted, MessageDelta, MessageCompleted]
    end = events[-1].body
    assert isinstance(end, MessageCompleted)
    assert (end.message.content, end.finish_reason) == (NO_ANSWER_TEXT, "no_answer")
    assert scripted_models.chat.requests == []


async def test_below_the_minimum_score_the_model_is_not_called(chat: Chat, scripted_models: ScriptedModels) -> None:
    resources = chat.runs.resources
    strict = resources.settings.changed({"abstain_min_score": 0.99})
    async with open_runs(replace(resources, settings=strict)) as runs:
        run = await begin_run(runs, chat.workspace_id, chat.session.id, content="How long do refunds take?")
        message = await wait_for_answer(runs, chat.workspace_id, run.id, message_id=run.answer_id)
    assert message.content == NO_ANSWER_TEXT
    assert scripted_models.chat.requests == []


@pytest.mark.parametrize(
    ("question", "said", "finish_reason"),
    [
        ("Wie lange dauert die Rückzahlung?", NO_ANSWER_TEXTS["de"], "no_answer"),
        ("How long?", f"{NO_ANSWER_TEXT} Ask the shop.", "no_answer"),
        ("How long?", f"{NO_ANSWER_TEXT[:-1]} [9].", "no_answer"),
        ("How long?", f"{NO_ANSWER_TEXT} But refunds take 14 days [1].", "stop"),
        ("How long?", "Refunds take 14 days [1].", "stop"),
    ],
)
async def test_an_answer_that_abstains_is_flagged(
    chat: Chat, scripted_models: ScriptedModels, question: str, said: str, finish_reason: str
) -> None:
    scripted_models.chat_text = said
    run = await chat.ask(question)
    end = (await chat.events(run))[-1].body
    assert isinstance(end, MessageCompleted)
    stored_run, message = await chat.stored(run)
    reasons = [end.finish_reason, end.message.finish_reason, message.finish_reason, stored_run.finish_reason]
    assert reasons == [finish_reason] * 4
    asked_for = read_instruction(scripted_models.chat.requests[-1]["messages"][0]["content"])
    assert asked_for == (NO_ANSWER_TEXTS["de"] if question.startswith("Wie") else NO_ANSWER_TEXT)


async def test_an_answer_cut_off_in_an_abstention_is_flagged_as_cut_off(
    chat: Chat, scripted_models: ScriptedModels
) -> None:
    scripted_models.chat.script(Reply(NO_ANSWER_TEXT, finish_reason="length"))
    run = await chat.ask()
    await chat.events(run)
    _stored, message = await chat.stored(run)
    assert message.finish_reason == "length"


async def test_a_session_has_an_abstention_of_its_own(chat: Chat, scripted_models: ScriptedModels) -> None:
    session = replace(chat.session, no_answer_text="Ask Kim.")
    async with chat.runs.resources.pool.acquire() as conn:
        await chat_sessions.update_session(conn, session)
    scripted_models.chat_text = "Ask Kim."
    run = await chat.ask()
    await chat.events(run)
    _stored, message = await chat.stored(run)
    assert message.finish_reason == "no_answer"
    assert read_instruction(scripted_models.chat.requests[-1]["messages"][0]["content"]) == "Ask Kim."
    nowhere = Comparison(Comparator.EQ, "lang", "xx")
    unfound = await begin_run(chat.runs, chat.workspace_id, chat.session.id, content="Wie lange?", filters=nowhere)
    await chat.events(unfound)
    _stored, message = await chat.stored(unfound)
    assert (message.content, message.finish_reason) == ("Ask Kim.", "no_answer")


async def test_a_session_searches_its_collections_and_skips_deleted_ones(chat: Chat) -> None:
    other = await chat.library.add_collection("other")
    only = await chat.library.add("Refunds of this collection take 5 days.", collection_id=other)
    session = replace(chat.session, collection_ids=(other, new_id()))
    async with chat.runs.resources.pool.acquire() as conn:
        await chat_sessions.update_session(conn, session)
    sources = (await chat.events(await chat.ask()))[1].body
    assert isinstance(sources, RetrievalCompleted)
    assert {source.document_id for source in sources.sources} == {only}


@pytest.mark.parametrize(
    ("behaviours", "code", "retryable", "text"),
    [
        ([Fail(500)] * 3, "chat_unavailable", True, ""),
        ([Fail(400)], "chat_rejected", False, ""),
        ([Fail(429, code="insufficient_quota")], "chat_quota", False, ""),
        ([Cut(after_deltas=2)], "chat_unavailable", True, "The scripted "),
        ([StreamError(after_deltas=3)], "chat_unavailable", True, "The scripted model "),
    ],
)
async def test_a_failing_model_ends_the_run_and_the_text_so_far_remains(
    chat: Chat,
    scripted_models: ScriptedModels,
    behaviours: list[Behaviour],
    code: str,
    *,
    retryable: bool,
    text: str,
) -> None:
    scripted_models.chat.script(*behaviours)
    run = await chat.ask()
    events = await chat.events(run)
    check_order(events)
    failed = events[-1].body
    assert isinstance(failed, RunFailed)
    assert (failed.code, failed.retryable) == (code, retryable)
    stored, message = await chat.stored(run)
    assert (stored.status, message.status, message.content) == (RunStatus.FAILED, "failed", text)
    assert stored.error is not None
    assert stored.error.code == code


async def test_an_unavailable_embedding_model_ends_the_run(chat: Chat, scripted_models: ScriptedModels) -> None:
    scripted_models.embeddings.usual = Fail(503)
    run = await chat.ask("a question nobody asked before")
    events = await chat.events(run)
    assert [event.id for event in events] == [1, 2]
    failed = events[-1].body
    assert isinstance(failed, RunFailed)
    assert (failed.code, failed.retryable) == ("embedding_unavailable", True)
    assert await chat.events(run) == events


async def test_a_model_that_hangs_ends_the_run(
    chat: Chat, scripted_models: ScriptedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_models.chat.script(Pause(after_deltas=1))
    # On a busy machine the first token could arrive after the timeout, and the call would be retried.
    monkeypatch.setattr("ragsvc.llm.chat.FIRST_TOKEN_FACTOR", 60.0)
    settings = chat.runs.resources.settings.changed({"model_timeout_s": 0.3})
    async with another_process(settings) as runs:
        run = await begin_run(runs, chat.workspace_id, chat.session.id, content="How long?")
        events = await chat.events(run, runs=runs)
    failed = events[-1].body
    assert isinstance(failed, RunFailed)
    assert "in time" in failed.message
    assert (await chat.stored(run))[1].content == "The "


async def test_a_session_has_one_run_at_a_time(chat: Chat, scripted_models: ScriptedModels) -> None:
    pause = Pause(after_deltas=1)
    scripted_models.chat.script(pause)
    run = await chat.ask()
    with pytest.raises(RunActive):
        await chat.ask()
    assert len(await chat.messages()) == 2
    pause.resumed.set()
    await chat.events(run)
    await chat.events(await chat.ask())
    assert len(await chat.messages()) == 4


async def test_concurrent_questions_begin_only_one_run(chat: Chat, scripted_models: ScriptedModels) -> None:
    # The first answer continues until the last question has been rejected, however late that is.
    scripted_models.chat.script(Pause(after_deltas=1))
    begun = await asyncio.gather(*(chat.ask() for _ in range(5)), return_exceptions=True)
    runs = [run for run in begun if not isinstance(run, BaseException)]
    assert len(runs) == 1
    assert sum(isinstance(error, RunActive) for error in begun) == 4
    await cancel_run(chat.runs, chat.workspace_id, runs[0].id)
    await chat.events(runs[0])


async def test_a_question_to_an_unknown_session_is_not_found(chat: Chat) -> None:
    with pytest.raises(NotFound):
        await begin_run(chat.runs, chat.workspace_id, new_id(), content="Hello?")
    with pytest.raises(NotFound):
        await begin_run(chat.runs, new_id(), chat.session.id, content="Hello?")


async def test_a_cancelled_run_has_its_text_so_far(chat: Chat, scripted_models: ScriptedModels) -> None:
    scripted_models.chat.script(Pause(after_deltas=2))
    run = await chat.ask()
    await wait_for_events(chat, run, 4)
    await cancel_run(chat.runs, chat.workspace_id, run.id)
    events = await chat.events(run)
    assert events[-1].body == RunCancelled()
    stored, message = await chat.stored(run)
    assert (stored.status, message.status, message.content) == (RunStatus.CANCELLED, "cancelled", "The scripted ")
    assert await cancel_run(chat.runs, chat.workspace_id, run.id) == stored


async def test_a_run_can_be_cancelled_from_another_process(chat: Chat, scripted_models: ScriptedModels) -> None:
    scripted_models.chat.script(Pause(after_deltas=2))
    run = await chat.ask()
    await wait_for_events(chat, run, 4)
    async with another_process(chat.runs.resources.settings) as elsewhere:
        await cancel_run(elsewhere, chat.workspace_id, run.id)
        assert (await chat.events(run, runs=elsewhere))[-1].body == RunCancelled()


async def test_a_process_that_stops_interrupts_its_runs(chat: Chat, scripted_models: ScriptedModels) -> None:
    scripted_models.chat.script(Pause(after_deltas=2))
    async with another_process(chat.runs.resources.settings) as stopping:
        run = await begin_run(stopping, chat.workspace_id, chat.session.id, content="How long?")
        await wait_for_events(chat, run, 4, runs=stopping)
    events = await chat.events(run)
    check_order(events)
    assert events[-1].body == RunInterrupted(len("The scripted "))
    assert (await chat.stored(run))[1].content == "The scripted "


async def test_a_run_that_begins_while_its_process_stops_is_interrupted(chat: Chat) -> None:
    await chat.runs.owner.drain()
    run = await chat.ask()
    await until(lambda: not len(chat.runs.owner), what="the run's end")
    assert (await chat.stored(run))[0].status is RunStatus.INTERRUPTED
    assert isinstance((await chat.events(run))[-1].body, RunInterrupted)


async def test_a_run_that_is_cancelled_before_it_begins_is_cancelled(chat: Chat) -> None:
    run = await chat.ask()
    assert chat.runs.owner.cancel(run.id)
    assert isinstance((await chat.events(run))[-1].body, RunCancelled)
    assert (await chat.stored(run))[0].status is RunStatus.CANCELLED


async def test_a_retry_answers_the_same_message(chat: Chat, scripted_models: ScriptedModels) -> None:
    scripted_models.chat.script(Fail(400), Reply(ANSWER))
    failed = await chat.ask("How long do refunds take?")
    await chat.events(failed)
    again = await retry_run(chat.runs, chat.workspace_id, failed.id)
    assert again.question_id == failed.question_id
    end = (await chat.events(again))[-1].body
    assert isinstance(end, MessageCompleted)
    assert [message.status for message in await chat.messages()] == ["completed", "failed", "completed"]
    with pytest.raises(RunNotRetryable):
        await retry_run(chat.runs, chat.workspace_id, again.id)
    with pytest.raises(RunNotRetryable):
        await retry_run(chat.runs, chat.workspace_id, failed.id)
    with pytest.raises(NotFound):
        await retry_run(chat.runs, new_id(), failed.id)


async def test_a_running_run_cannot_be_retried(chat: Chat, scripted_models: ScriptedModels) -> None:
    pause = Pause(after_deltas=1)
    scripted_models.chat.script(pause)
    run = await chat.ask()
    with pytest.raises(RunActive):
        await retry_run(chat.runs, chat.workspace_id, run.id)
    pause.resumed.set()
    await chat.events(run)


async def test_a_run_continues_without_followers(chat: Chat) -> None:
    run = await chat.ask()
    stream = follow_run(chat.runs, chat.workspace_id, run.id)
    await anext(stream)
    await stream.aclose()

    async def is_completed() -> bool:
        return (await chat.stored(run))[0].status is RunStatus.COMPLETED

    assert await until(is_completed)
    await until(lambda: len(chat.runs.owner) == 0)


async def test_a_deleted_session_stops_its_run(chat: Chat, scripted_models: ScriptedModels) -> None:
    pause = Pause(after_deltas=1)
    scripted_models.chat.script(pause)
    run = await chat.ask()
    reading = asyncio.create_task(chat.events(run))
    await asyncio.wait_for(pause.reached.wait(), 10)
    async with chat.runs.resources.pool.acquire() as conn:
        await chat_sessions.delete_session(conn, chat.workspace_id, chat.session.id)
    await until(lambda: len(chat.runs.owner) == 0)
    events = await asyncio.wait_for(reading, 10)
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert [isinstance(event.body, RunCancelled) for event in events] == [False] * (len(events) - 1) + [True]

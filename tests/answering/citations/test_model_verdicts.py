"""Verdicts of the chat model: one call per answer, whose failure leaves verdicts unknown."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ragsvc.answering.citations import model_verdicts
from ragsvc.domain.chat.citations import SupportMethod, Verdict
from ragsvc.domain.chat.conversations import TokenUsage
from ragsvc.runs.events import MessageCompleted
from ragsvc.runs.requests import begin_run
from ragsvc.runs.runs import follow_run, open_runs
from tests.support.chat import ANSWER
from tests.support.servers.model_server import Fail, Pause, Reply

if TYPE_CHECKING:
    from ragsvc.domain.chat.conversations import ChatMessage
    from tests.support.chat import Chat
    from tests.support.servers.model_server import Behaviour, ScriptedModels


async def answer(chat: Chat, scripted_models: ScriptedModels, *behaviours: Behaviour) -> ChatMessage:
    """Ask with `CITATION_SUPPORT_METHOD=model`, and return the stored answer."""
    scripted_models.chat.script(*behaviours)
    resources = chat.runs.resources
    settings = resources.settings.changed({"citation_support_method": "model"})
    async with open_runs(replace(resources, settings=settings)) as runs:
        run = await begin_run(runs, chat.workspace_id, chat.session.id, content="How long do refunds take?")
        events = [event async for event in follow_run(runs, chat.workspace_id, run.id)]
    end = events[-1].body
    assert isinstance(end, MessageCompleted)
    _run, message = await chat.stored(run)
    assert end.message == message
    assert message.content == ANSWER
    return message


def verdicts(message: ChatMessage) -> list[tuple[Verdict, SupportMethod]]:
    return [(one.support.verdict, one.support.method) for one in message.citations]


async def test_one_call_judges_all_citations(chat: Chat, scripted_models: ScriptedModels) -> None:
    reply = Reply('```json\n{"1": "contradicted", "2": "supported", "x": "supported"}\n```')
    message = await answer(chat, scripted_models, Reply(ANSWER), reply)
    assert verdicts(message) == [
        (Verdict.CONTRADICTED, SupportMethod.MODEL),
        (Verdict.SUPPORTED, SupportMethod.MODEL),
        (Verdict.UNKNOWN, SupportMethod.WORDS),
    ]
    assert [one.verified for one in message.citations] == [True, True, False]
    _answering, judging = scripted_models.chat.requests
    pairs = json.loads(judging["messages"][1]["content"])
    assert [(pair["id"], pair["quote"]) for pair in pairs] == [(n, message.citations[n - 1].quote) for n in (1, 2)]
    assert message.usage is not None
    assert message.usage.prompt_tokens == 2 * TokenUsage(7, 17).prompt_tokens


@pytest.mark.parametrize(
    "behaviour",
    [
        Fail(400),
        Reply("I think that both are fine."),
        Reply('{"1": "yes", "2": 1}'),
        Reply("{1: supported}"),
        Reply("{" + " " * model_verdicts.MAX_REPLY_CHARS + '"1": "supported"}'),
    ],
)
async def test_a_failed_call_leaves_verdicts_unknown(
    chat: Chat, scripted_models: ScriptedModels, behaviour: Behaviour
) -> None:
    message = await answer(chat, scripted_models, Reply(ANSWER), behaviour)
    assert verdicts(message)[:2] == [(Verdict.UNKNOWN, SupportMethod.MODEL)] * 2
    assert [one.verified for one in message.citations] == [True, True, False]


async def test_a_slow_call_leaves_verdicts_unknown(
    chat: Chat, scripted_models: ScriptedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_verdicts, "TIMEOUT_S", 0.05)
    message = await answer(chat, scripted_models, Reply(ANSWER), Pause())
    assert verdicts(message)[:2] == [(Verdict.UNKNOWN, SupportMethod.MODEL)] * 2


async def test_citations_beyond_the_bound_keep_their_verdict(
    chat: Chat, scripted_models: ScriptedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_verdicts, "MAX_PAIRS", 1)
    message = await answer(chat, scripted_models, Reply(ANSWER), Reply('{"1": "supported", "2": "supported"}'))
    assert [method for _verdict, method in verdicts(message)] == [
        SupportMethod.MODEL, SupportMethod.WORDS, SupportMethod.WORDS,
    ]  # fmt: skip


async def test_without_quotes_the_model_is_not_asked(chat: Chat, scripted_models: ScriptedModels) -> None:
    scripted_models.chat.script(Reply("Nothing is cited here."))
    resources = chat.runs.resources
    settings = resources.settings.changed({"citation_support_method": "model"})
    async with open_runs(replace(resources, settings=settings)) as runs:
        run = await begin_run(runs, chat.workspace_id, chat.session.id, content="How long do refunds take?")
        assert [event async for event in follow_run(runs, chat.workspace_id, run.id)]
    assert len(scripted_models.chat.requests) == 1

"""Tests of streamed answers from a server that can misbehave."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ragsvc.devstack.ports import free_ports
from ragsvc.domain.chat.conversations import TokenUsage
from ragsvc.errors.work import OutageFailure, ProviderRejected, TransientFailure
from ragsvc.llm.chat import ChatDelta, _ChunkReader
from ragsvc.llm.client import LlmClient, open_llm
from tests.llm.conftest import collect
from tests.support.servers.model_server import Cut, Fail, Pause, Reply, ScriptedModels, StreamError

if TYPE_CHECKING:
    from ragsvc.llm.provider_rate import ProviderRate
    from ragsvc.settings.settings import Settings


async def test_an_answer_comes_in_deltas_and_ends_with_its_cost(
    models: LlmClient, scripted_models: ScriptedModels
) -> None:
    scripted_models.chat.script(Reply("One two three.", finish_reason="length"))
    deltas: list[ChatDelta] = []
    await collect(models, into=deltas)
    assert [delta.text for delta in deltas] == ["One ", "two ", "three.", "", ""]
    assert deltas[-2].finish_reason == "length"
    assert deltas[-1].usage == TokenUsage(7, 3)
    assert scripted_models.chat.requests[0]["messages"] == [
        {"role": "system", "content": "Answer."},
        {"role": "user", "content": "Hello?"},
    ]


async def test_requests_do_not_describe_this_machine(models: LlmClient, scripted_models: ScriptedModels) -> None:
    await collect(models, into=[])
    (headers,) = scripted_models.chat.headers
    assert "authorization" in headers
    assert [name for name in headers if name.startswith("x-stainless")] == []


async def test_a_failure_before_the_first_text_is_retried(models: LlmClient, scripted_models: ScriptedModels) -> None:
    scripted_models.chat.script(Fail(500), Cut())
    deltas: list[ChatDelta] = []
    await collect(models, into=deltas)
    assert "".join(delta.text for delta in deltas) == scripted_models.chat_text
    assert len(scripted_models.chat.requests) == 3


async def test_the_last_of_three_failures_is_raised(models: LlmClient, scripted_models: ScriptedModels) -> None:
    scripted_models.chat.script(Fail(500), Fail(500), Fail(503))
    with pytest.raises(TransientFailure) as caught:
        await collect(models, into=[])
    assert (caught.value.work_code, caught.value.http_status) == ("chat_unavailable", 503)


@pytest.mark.parametrize("behaviour", [Cut(2), StreamError(2), Pause(2)])
async def test_a_failure_after_the_first_text_is_not_retried(
    models: LlmClient, scripted_models: ScriptedModels, behaviour: Cut | StreamError | Pause
) -> None:
    scripted_models.chat.script(behaviour)
    deltas: list[ChatDelta] = []
    with pytest.raises(TransientFailure) as caught:
        await collect(models, into=deltas)
    assert caught.value.work_code == ("chat_timeout" if isinstance(behaviour, Pause) else "chat_unavailable")
    assert [delta.text for delta in deltas] == ["The ", "scripted "]
    assert len(scripted_models.chat.requests) == 1


async def test_an_answer_without_a_finish_reason_was_cut_off(
    models: LlmClient, scripted_models: ScriptedModels
) -> None:
    scripted_models.chat.script(Reply("Half an", finish_reason=""))
    with pytest.raises(TransientFailure, match="cut off"):
        await collect(models, into=[])


async def test_a_rejected_request_is_not_retried(models: LlmClient, scripted_models: ScriptedModels) -> None:
    scripted_models.chat.script(Fail(400, message="too long"))
    with pytest.raises(ProviderRejected, match="too long") as caught:
        await collect(models, into=[])
    assert caught.value.work_code == "chat_rejected"
    assert len(scripted_models.chat.requests) == 1


async def test_a_model_that_times_out_is_not_retried(
    models: LlmClient, scripted_models: ScriptedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ragsvc.llm.chat.QUICK_ATTEMPTS_S", 0.2)
    scripted_models.chat.script(Pause(), Pause(), Pause())
    with pytest.raises(TransientFailure, match="in time"):
        await collect(models, into=[])
    assert len(scripted_models.chat.requests) == 1


async def test_an_unreachable_server_is_an_outage(base_settings: Settings, limit: ProviderRate) -> None:
    away = base_settings.changed({"openai_base_url": f"http://127.0.0.1:{free_ports(1)[0]}/v1"})
    async with open_llm(away, limit) as models:
        with pytest.raises(OutageFailure) as caught:
            await collect(models, into=[])
    assert caught.value.work_code == "chat_unreachable"


async def test_split_characters_are_joined_and_invalid_ones_replaced(
    models: LlmClient, scripted_models: ScriptedModels
) -> None:
    scripted_models.chat.script(Reply("a\ud83d \ude00b c\ud83d\ude00 nul\0 end\ud83d"))
    deltas: list[ChatDelta] = []
    await collect(models, into=deltas)
    text = "".join(delta.text for delta in deltas)
    assert text == "a\ufffd \ufffdb c\U0001f600 nul end"


def test_a_character_split_between_two_deltas_is_joined() -> None:
    reader = _ChunkReader()
    pieces = ["smile \ud83d", "\ude00", " and \ud83d", "on"]
    chunks = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    texts = [delta.text for chunk in chunks for delta in reader.read(chunk)]
    assert texts == ["smile ", "\U0001f600", " and ", "\ufffdon"]


@pytest.mark.parametrize(
    "chunk",
    [
        None,
        [],
        {},
        {"choices": None, "usage": None},
        {"choices": [None]},
        {"choices": [{"delta": None}]},
        {"choices": [{"delta": {"content": 1}, "finish_reason": None}]},
    ],
)
def test_a_malformed_chunk_yields_no_deltas(chunk: object) -> None:
    assert list(_ChunkReader().read(chunk)) == []

"""Tests of non-standard OpenAI-compatible servers, and of the error code for each failure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from ragsvc.domain.chat.conversations import TokenUsage
from ragsvc.errors.work import ProviderRejected, TransientFailure, WorkError
from ragsvc.llm.client import LlmClient, open_llm
from tests.llm.conftest import collect
from tests.support.servers.model_server import Fail, Pause, Raw, Reply, Slow

if TYPE_CHECKING:
    from ragsvc.llm.chat import ChatDelta
    from ragsvc.llm.provider_rate import ProviderRate
    from ragsvc.settings.settings import Settings
    from tests.support.servers.model_server import Behaviour, ScriptedModels


def chunk(delta: dict[str, Any] | None = None, *, finish: str | None = None, **more: Any) -> bytes:
    """Return a chunk of a stream."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + json.dumps({"choices": choices, **more}).encode() + b"\n\n"


STOP = chunk({}, finish="stop")
DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


async def read_answer(models: LlmClient) -> tuple[str, str | None, TokenUsage | None]:
    """Return the text of an answer, its finish reason and its token usage."""
    deltas: list[ChatDelta] = []
    await collect(models, into=deltas)
    finish_reason = next((delta.finish_reason for delta in deltas if delta.finish_reason), None)
    usage = [delta.usage for delta in deltas if delta.usage]
    return "".join(delta.text for delta in deltas), finish_reason, usage[-1] if usage else None


@pytest.mark.parametrize(
    ("stream", "cost"),
    [
        ([chunk({"role": "assistant", "content": None}), chunk({"content": "Yes."}), STOP, DONE], None),
        ([chunk({"content": ""}), chunk({"content": "Yes."}), STOP, chunk(usage=USAGE), DONE], TokenUsage(5, 2)),
        ([chunk({"content": "Yes."}, usage=None), chunk({}, finish="stop", usage=USAGE), DONE], TokenUsage(5, 2)),
        ([chunk({"reasoning_content": "Hm.", "content": None}), chunk({"content": "Yes."}), STOP, DONE], None),
        ([chunk({"reasoning": "Hm."}), chunk(), chunk({"content": "Yes."}), STOP], None),
        ([chunk({"content": [{"type": "text", "text": "Yes"}, {"type": "text", "text": "."}]}), STOP, DONE], None),
        ([b": PROCESSING\n\n", chunk({"content": "Yes."}), STOP, DONE], None),
        ([chunk({"content": "Yes."}).replace(b"\n\n", b"\r\n\r\n"), STOP, DONE], None),
        ([chunk({"content": None, "refusal": "Yes."}), STOP, DONE], None),
    ],
    ids=["null", "usage_last", "usage_with_end", "reasoning", "no_choices", "parts", "comment", "crlf", "refusal"],
)
async def test_answers_of_non_standard_servers_are_read(
    models: LlmClient, scripted_models: ScriptedModels, stream: list[bytes], cost: TokenUsage | None
) -> None:
    scripted_models.chat.script(Raw(b"".join(stream)))
    assert await read_answer(models) == ("Yes.", "stop", cost)


@pytest.mark.parametrize(
    "usage",
    [
        {},
        {"total_tokens": 7},
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": 5, "completion_tokens": None},
        {"prompt_tokens": -5, "completion_tokens": 2},
        {"prompt_tokens": 5, "completion_tokens": 2**64},
        {"prompt_tokens": "5", "completion_tokens": "2"},
    ],
)
async def test_implausible_usage_is_ignored(
    models: LlmClient, scripted_models: ScriptedModels, usage: dict[str, object]
) -> None:
    scripted_models.chat.script(Raw(chunk({"content": "Yes."}) + STOP + chunk(usage=usage) + DONE))
    assert await read_answer(models) == ("Yes.", "stop", None)


async def test_a_server_that_rejects_stream_options_is_called_without_them(
    models: LlmClient, scripted_models: ScriptedModels
) -> None:
    scripted_models.chat.script(Fail(400, message="Unrecognized request argument supplied: stream_options"))
    assert (await read_answer(models))[0] == scripted_models.chat_text
    assert (await read_answer(models))[2] is None
    asked = [("stream_options" in body) for body in scripted_models.chat.requests]
    assert asked == [True, False, False]


@pytest.mark.parametrize(
    ("behaviour", "code", "kind"),
    [
        (Fail(400, code="context_length_exceeded"), "chat_context_too_long", ProviderRejected),
        (Fail(400, message="This model's maximum context length is 8192"), "chat_context_too_long", ProviderRejected),
        (Fail(400, message="no such parameter"), "chat_rejected", ProviderRejected),
        (Fail(401), "chat_unauthorized", ProviderRejected),
        (Fail(403), "chat_unauthorized", ProviderRejected),
        (Fail(404, code="model_not_found"), "chat_model_not_found", ProviderRejected),
        (Fail(402), "chat_quota", ProviderRejected),
        (Fail(429, code="insufficient_quota"), "chat_quota", ProviderRejected),
        (Fail(429, retry_after_s=30), "chat_rate_limited", TransientFailure),
        (Fail(408), "chat_timeout", TransientFailure),
        (Fail(409), "chat_unavailable", TransientFailure),
        (Fail(500), "chat_unavailable", TransientFailure),
        (Fail(503), "chat_unavailable", TransientFailure),
        (Raw(b""), "chat_empty", TransientFailure),
        (Raw(STOP + DONE), "chat_empty", TransientFailure),
        (Raw(chunk({}, finish="content_filter") + DONE), "chat_filtered", ProviderRejected),
        (Raw(b"data: {half\n\n"), "chat_unavailable", TransientFailure),
        (Raw(b'data: {"error": {"message": "x", "code": "insufficient_quota"}}\n\n'), "chat_quota", ProviderRejected),
        (Pause(), "chat_timeout", TransientFailure),
    ],
)
async def test_every_failure_has_its_code(
    models: LlmClient,
    scripted_models: ScriptedModels,
    monkeypatch: pytest.MonkeyPatch,
    *,
    behaviour: Behaviour,
    code: str,
    kind: type[WorkError],
) -> None:
    monkeypatch.setattr("ragsvc.llm.chat.QUICK_ATTEMPTS", 1)
    scripted_models.chat.script(behaviour)
    with pytest.raises(kind) as caught:
        await read_answer(models)
    assert caught.value.work_code == code


async def test_a_content_filter_after_some_text_is_the_finish_reason(
    models: LlmClient, scripted_models: ScriptedModels
) -> None:
    scripted_models.chat.script(Reply("Half an", finish_reason="content_filter"))
    assert (await read_answer(models))[:2] == ("Half an", "content_filter")


async def test_the_first_token_can_take_longer_than_later_ones(
    base_settings: Settings, scripted_models: ScriptedModels, limit: ProviderRate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ragsvc.llm.chat.FIRST_TOKEN_FACTOR", 200.0)
    settings = scripted_models.applied_to(base_settings).changed({"model_timeout_s": 0.1})
    async with open_llm(settings, limit) as models:
        scripted_models.chat.script(Slow(0.5), Pause(after_deltas=1))
        assert (await read_answer(models))[0] == scripted_models.chat_text
        with pytest.raises(TransientFailure, match="in time"):
            await read_answer(models)


async def test_a_rejected_request_is_logged_with_the_providers_request_id(
    models: LlmClient, scripted_models: ScriptedModels
) -> None:
    scripted_models.chat.script(Fail(400, message="no such parameter"))
    with capture_logs() as logged, pytest.raises(ProviderRejected):
        await read_answer(models)
    failed = next(entry for entry in logged if entry["event"] == "model_failed")
    assert failed["provider_request_id"] == "req-scripted"
    assert (failed["code"], failed["http_status"]) == ("chat_rejected", 400)


async def test_the_limit_of_tokens_has_the_name_that_the_model_accepts(
    models: LlmClient, scripted_models: ScriptedModels
) -> None:
    refusal = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    scripted_models.chat.script(Fail(400, code="unsupported_parameter", message=refusal))
    for _ in range(2):
        assert await read_answer(models)
    limits = [{name for name in request if name.startswith("max_")} for request in scripted_models.chat.requests]
    assert limits == [{"max_tokens"}, {"max_completion_tokens"}, {"max_completion_tokens"}]


async def test_a_limit_of_tokens_that_is_too_large_is_reported(
    models: LlmClient, scripted_models: ScriptedModels
) -> None:
    refusal = "'max_tokens' or 'max_completion_tokens' is too large: 4096."
    scripted_models.chat.script(Fail(400, message=refusal))
    with pytest.raises(ProviderRejected, match="too large"):
        await read_answer(models)

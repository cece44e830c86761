"""Tests of embedding calls to a server that can misbehave."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydantic import SecretStr

from ragsvc.devstack.ports import free_ports
from ragsvc.domain.ids import new_id
from ragsvc.domain.usage import EmbeddingUsage
from ragsvc.errors.work import OutageFailure, ProviderRejected, TransientFailure, WorkError
from ragsvc.llm.chat import ChatTurn
from ragsvc.llm.client import LlmClient, open_llm
from tests.support.servers.model_server import Cut, Embedded, Fail, Pause, ReportedUsage, ScriptedModels, embed_words

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.llm.provider_rate import ProviderRate
    from ragsvc.settings.settings import Settings

WORKSPACE = new_id()


@pytest.fixture
def scripted_settings(base_settings: Settings, scripted_models: ScriptedModels) -> Settings:
    """Settings that use the scripted model server."""
    return scripted_models.applied_to(base_settings)


@pytest.fixture
async def models(scripted_settings: Settings, limit: ProviderRate) -> AsyncIterator[LlmClient]:
    """A client of the scripted server."""
    async with open_llm(scripted_settings, limit) as opened:
        yield opened


async def test_vectors_come_in_the_order_of_the_texts(models: LlmClient, scripted_models: ScriptedModels) -> None:
    vectors, _usage = await models.embed(["kettles boil", "parcels arrive"], token_count=4)
    assert vectors.shape == (2, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, np.stack([embed_words("kettles boil"), embed_words("parcels arrive")]))
    assert [request["encoding_format"] for request in scripted_models.embeddings.requests] == ["base64"]


@pytest.mark.parametrize(("given", "sent"), [("sk-embeddings", "sk-embeddings"), (None, "sk-chat")])
async def test_embeddings_and_answers_can_come_from_two_servers(
    base_settings: Settings, limit: ProviderRate, scripted_models: ScriptedModels, given: str | None, sent: str
) -> None:
    async with ScriptedModels().serving() as chat_server:
        changes = {
            "openai_base_url": chat_server.url,
            "openai_api_key": SecretStr("sk-chat"),
            "embedding_base_url": scripted_models.url,
            "embedding_api_key": SecretStr(given) if given else None,
        }
        async with open_llm(base_settings.changed(changes), limit) as opened:
            await opened.embed(["kettles boil"], token_count=2)
            async with aclosing(opened.stream_chat([ChatTurn("user", "hello")], model="scripted")) as deltas:
                assert [delta async for delta in deltas]
        assert (len(chat_server.embeddings.requests), len(chat_server.chat.requests)) == (0, 1)
        assert chat_server.chat.headers[0]["authorization"] == "Bearer sk-chat"
    assert (len(scripted_models.embeddings.requests), len(scripted_models.chat.requests)) == (1, 0)
    assert scripted_models.embeddings.headers[0]["authorization"] == f"Bearer {sent}"


async def test_embedding_no_texts_makes_no_call(models: LlmClient, scripted_models: ScriptedModels) -> None:
    vectors, usage = await models.embed([], token_count=0)
    assert (vectors.shape, usage) == ((0, 384), EmbeddingUsage())
    assert scripted_models.embeddings.requests == []


@pytest.mark.parametrize(
    ("failure", "kind", "code"),
    [
        (Fail(400), ProviderRejected, "embedding_rejected"),
        (Fail(401), OutageFailure, "embedding_unauthorized"),
        (Fail(404), OutageFailure, "embedding_model_not_found"),
        (Fail(422), ProviderRejected, "embedding_rejected"),
        (Fail(402), OutageFailure, "embedding_quota"),
        (Fail(429, code="insufficient_quota"), OutageFailure, "embedding_quota"),
        (Fail(408), TransientFailure, "embedding_unavailable"),
        (Fail(409), TransientFailure, "embedding_unavailable"),
        (Fail(429), TransientFailure, "embedding_unavailable"),
        (Fail(500), TransientFailure, "embedding_unavailable"),
        (Fail(503), TransientFailure, "embedding_unavailable"),
    ],
)
async def test_each_http_status_has_its_kind_of_failure(
    models: LlmClient, scripted_models: ScriptedModels, failure: Fail, kind: type[WorkError], code: str
) -> None:
    scripted_models.embeddings.script(failure)
    with pytest.raises(kind) as caught:
        await models.embed(["text"], token_count=1)
    assert (caught.value.work_code, caught.value.http_status) == (code, failure.status)
    assert len(scripted_models.embeddings.requests) == 1


async def test_retry_after_is_part_of_the_failure(models: LlmClient, scripted_models: ScriptedModels) -> None:
    scripted_models.embeddings.script(Fail(429, retry_after_s=7.5))
    with pytest.raises(TransientFailure) as caught:
        await models.embed(["text"], token_count=1)
    assert caught.value.retry_after_s == 7.5


async def test_a_rejected_api_key_is_not_part_of_the_error(models: LlmClient, scripted_models: ScriptedModels) -> None:
    scripted_models.embeddings.script(Fail(401, message="Incorrect API key provided: sk-secret"))
    with pytest.raises(OutageFailure) as caught:
        await models.embed(["text"], token_count=1)
    assert "sk-secret" not in caught.value.detail


async def test_an_unreachable_server_is_an_outage(base_settings: Settings, limit: ProviderRate) -> None:
    away = base_settings.changed({"openai_base_url": f"http://127.0.0.1:{free_ports(1)[0]}/v1"})
    async with open_llm(away, limit) as models:
        with pytest.raises(OutageFailure) as caught:
            await models.embed(["text"], token_count=1)
    assert caught.value.work_code == "embedding_unreachable"


async def test_dropped_connections_and_timeouts_are_transient(
    scripted_settings: Settings, scripted_models: ScriptedModels, limit: ProviderRate
) -> None:
    async with open_llm(scripted_settings.changed({"model_timeout_s": 0.2}), limit) as models:
        for behaviour in (Cut(), Pause()):
            scripted_models.embeddings.script(behaviour)
            with pytest.raises(TransientFailure, match="embedding"):
                await models.embed(["text"], token_count=1)


@pytest.mark.parametrize(
    ("vectors", "kind", "code"),
    [
        ([[1.0] * 3], ProviderRejected, "dimension_mismatch"),
        ([[1.0] * 384] * 2, TransientFailure, "embedding_unavailable"),
        ([[float("nan")] * 384], TransientFailure, "embedding_unavailable"),
        ([[-65_520.0] * 384], ProviderRejected, "embedding_rejected"),
        ([[0.0] * 384], TransientFailure, "embedding_unavailable"),
        # Not zero yet, but half precision stores zeros.
        ([[1e-8] * 384], TransientFailure, "embedding_unavailable"),
    ],
)
async def test_invalid_vectors_are_rejected(
    models: LlmClient,
    scripted_models: ScriptedModels,
    vectors: list[list[float]],
    kind: type[WorkError],
    code: str,
) -> None:
    scripted_models.embeddings.script(Embedded(vectors))
    with pytest.raises(kind) as caught:
        await models.embed(["text"], token_count=1)
    assert caught.value.work_code == code


async def test_queries_are_retried_and_cached(models: LlmClient, scripted_models: ScriptedModels) -> None:
    scripted_models.embeddings.script(Fail(503), Fail(429, retry_after_s=0.01))
    first, usage = await models.embed_query("how long?", WORKSPACE)
    assert len(scripted_models.embeddings.requests) == 3
    # Failed calls and cached vectors have no usage.
    assert usage == EmbeddingUsage(calls=1, prompt_tokens=len("how long?") // 4)
    again, usage = await models.embed_query("how long?", WORKSPACE)
    np.testing.assert_array_equal(again, first)
    assert usage == EmbeddingUsage()
    assert len(scripted_models.embeddings.requests) == 3


@pytest.mark.parametrize(
    "reported",
    [
        *(None, 7, {}, {"total_tokens": 9}),
        *({"prompt_tokens": tokens} for tokens in (0, "many", -3, True, 2**63, None)),
    ],
)
async def test_usage_is_estimated_if_the_server_reports_none(
    models: LlmClient, scripted_models: ScriptedModels, reported: object
) -> None:
    scripted_models.embeddings.usual = ReportedUsage(reported)
    _vectors, usage = await models.embed(["kettles boil", "parcels arrive"], token_count=5)
    assert usage == EmbeddingUsage(calls=1, estimated_calls=1, prompt_tokens=5)
    _vector, usage = await models.embed_query("how long?", WORKSPACE)
    assert usage == EmbeddingUsage(calls=1, estimated_calls=1, prompt_tokens=3)


async def test_usage_is_what_the_server_reports(models: LlmClient, scripted_models: ScriptedModels) -> None:
    scripted_models.embeddings.usual = ReportedUsage({"prompt_tokens": 11, "total_tokens": 12})
    _vectors, usage = await models.embed(["kettles boil"], token_count=5)
    assert usage == EmbeddingUsage(calls=1, prompt_tokens=11)


@pytest.mark.parametrize("retry_after_s", [8_640_000, float("inf")])
async def test_a_retry_after_of_months_is_cut_to_an_hour(
    models: LlmClient, scripted_models: ScriptedModels, retry_after_s: float
) -> None:
    scripted_models.embeddings.script(Fail(429, retry_after_s=retry_after_s))
    with pytest.raises(TransientFailure) as caught:
        await models.embed(["kettle"], token_count=1)
    assert caught.value.retry_after_s == 3600


async def test_a_query_does_not_wait_for_a_long_retry_after(models: LlmClient, scripted_models: ScriptedModels) -> None:
    scripted_models.embeddings.script(Fail(429, retry_after_s=60))
    with pytest.raises(TransientFailure):
        await models.embed_query("how long?", WORKSPACE)
    assert len(scripted_models.embeddings.requests) == 1


async def test_a_query_that_is_too_long_is_halved_until_it_fits(
    models: LlmClient, scripted_models: ScriptedModels
) -> None:
    scripted_models.embeddings.script(Fail(400, code="context_length_exceeded"), Fail(400))
    await models.embed_query("x" * 5000, WORKSPACE)
    lengths = [len(request["input"][0]) for request in scripted_models.embeddings.requests]
    assert lengths == [1024, 512, 256]


async def test_a_429_with_retry_after_delays_batches_but_not_queries_or_pings(
    models: LlmClient, scripted_models: ScriptedModels
) -> None:
    scripted_models.embeddings.script(Fail(429, retry_after_s=30))
    with pytest.raises(TransientFailure):
        await models.embed(["text"], token_count=1)
    held = asyncio.create_task(models.embed(["text"], token_count=1))
    await models.embed_query("how long?", WORKSPACE)
    await models.ping()
    asked = [request["input"] for request in scripted_models.embeddings.requests]
    assert asked == [["text"], ["how long?"], ["ping"]]
    held.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held


async def test_a_503_with_retry_after_does_not_delay_other_calls(
    models: LlmClient, scripted_models: ScriptedModels
) -> None:
    scripted_models.embeddings.script(Fail(503, retry_after_s=30))
    with pytest.raises(TransientFailure):
        await models.embed(["text"], token_count=1)
    async with asyncio.timeout(10):
        await models.embed(["text"], token_count=1)


async def test_the_vector_of_a_query_is_only_reused_in_its_workspace(
    models: LlmClient, scripted_models: ScriptedModels
) -> None:
    first, _usage = await models.embed_query("how long?", WORKSPACE)
    again, usage = await models.embed_query("how long?", new_id())
    np.testing.assert_array_equal(again, first)
    assert usage == EmbeddingUsage(calls=1, prompt_tokens=len("how long?") // 4)
    assert len(scripted_models.embeddings.requests) == 2

"""Embedding calls against a server that can do wrong."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ragsvc.devstack.ports import free_ports
from ragsvc.domain.usage import EmbeddingUsage
from ragsvc.errors import OutageFailure, ProviderRejected, TransientFailure, WorkError
from ragsvc.llm.client import LlmClient, open_llm
from tests.support.servers.model_server import Cut, Embedded, Fail, Pause, ReportedUsage, ScriptedModels, embed_words

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.llm.provider_rate import EmbeddingRate
    from ragsvc.settings.settings import Settings


@pytest.fixture
def scripted_settings(base_settings: Settings, scripted_models: ScriptedModels) -> Settings:
    """Settings of a service whose models are scripted."""
    return scripted_models.applied_to(base_settings)


@pytest.fixture
async def models(scripted_settings: Settings, limit: EmbeddingRate) -> AsyncIterator[LlmClient]:
    """The client of the scripted server."""
    async with open_llm(scripted_settings, limit) as opened:
        yield opened


async def test_vectors_come_in_the_order_of_the_texts(models: LlmClient, scripted_models: ScriptedModels) -> None:
    vectors, _usage = await models.embed(["kettles boil", "parcels arrive"], token_count=4)
    assert vectors.shape == (2, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, np.stack([embed_words("kettles boil"), embed_words("parcels arrive")]))
    assert [request["encoding_format"] for request in scripted_models.embeddings.requests] == ["base64"]


async def test_no_texts_cost_no_call(models: LlmClient, scripted_models: ScriptedModels) -> None:
    vectors, usage = await models.embed([], token_count=0)
    assert (vectors.shape, usage) == ((0, 384), EmbeddingUsage())
    assert scripted_models.embeddings.requests == []


@pytest.mark.parametrize(
    ("failure", "kind", "code"),
    [
        (Fail(400), ProviderRejected, "embedding_rejected"),
        (Fail(401), ProviderRejected, "embedding_rejected"),
        (Fail(404), ProviderRejected, "embedding_rejected"),
        (Fail(422), ProviderRejected, "embedding_rejected"),
        (Fail(402), ProviderRejected, "embedding_quota"),
        (Fail(429, code="insufficient_quota"), ProviderRejected, "embedding_quota"),
        (Fail(408), TransientFailure, "embedding_unavailable"),
        (Fail(409), TransientFailure, "embedding_unavailable"),
        (Fail(429), TransientFailure, "embedding_unavailable"),
        (Fail(500), TransientFailure, "embedding_unavailable"),
        (Fail(503), TransientFailure, "embedding_unavailable"),
    ],
)
async def test_a_status_is_a_kind_of_failure(
    models: LlmClient, scripted_models: ScriptedModels, failure: Fail, kind: type[WorkError], code: str
) -> None:
    scripted_models.embeddings.script(failure)
    with pytest.raises(kind) as caught:
        await models.embed(["text"], token_count=1)
    assert (caught.value.work_code, caught.value.http_status) == (code, failure.status)
    assert len(scripted_models.embeddings.requests) == 1


async def test_retry_after_is_honoured(models: LlmClient, scripted_models: ScriptedModels) -> None:
    scripted_models.embeddings.script(Fail(429, retry_after_s=7.5))
    with pytest.raises(TransientFailure) as caught:
        await models.embed(["text"], token_count=1)
    assert caught.value.retry_after_s == 7.5


async def test_a_refused_key_is_not_repeated(models: LlmClient, scripted_models: ScriptedModels) -> None:
    scripted_models.embeddings.script(Fail(401, message="Incorrect API key provided: sk-secret"))
    with pytest.raises(ProviderRejected) as caught:
        await models.embed(["text"], token_count=1)
    assert "sk-secret" not in caught.value.detail


async def test_a_server_that_is_away_is_an_outage(base_settings: Settings, limit: EmbeddingRate) -> None:
    away = base_settings.changed({"openai_base_url": f"http://127.0.0.1:{free_ports(1)[0]}/v1"})
    async with open_llm(away, limit) as models:
        with pytest.raises(OutageFailure) as caught:
            await models.embed(["text"], token_count=1)
    assert caught.value.work_code == "embedding_unreachable"


async def test_a_dropped_connection_and_a_silent_server_pass_by(
    scripted_settings: Settings, scripted_models: ScriptedModels, limit: EmbeddingRate
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
    ],
)
async def test_wrong_vectors_are_not_taken(
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


async def test_a_query_is_tried_again_and_remembered(models: LlmClient, scripted_models: ScriptedModels) -> None:
    scripted_models.embeddings.script(Fail(503), Fail(429, retry_after_s=0.01))
    first, usage = await models.embed_query("how long?")
    assert len(scripted_models.embeddings.requests) == 3
    # What failed cost nothing, and what is remembered costs nothing again.
    assert usage == EmbeddingUsage(calls=1, prompt_tokens=len("how long?") // 4)
    again, usage = await models.embed_query("how long?")
    np.testing.assert_array_equal(again, first)
    assert usage == EmbeddingUsage()
    assert len(scripted_models.embeddings.requests) == 3


@pytest.mark.parametrize(
    "told",
    [
        *(None, 7, {}, {"total_tokens": 9}),
        *({"prompt_tokens": tokens} for tokens in (0, "many", -3, True, 2**63, None)),
    ],
)
async def test_where_the_server_does_not_tell_the_cost_it_is_estimated(
    models: LlmClient, scripted_models: ScriptedModels, told: object
) -> None:
    scripted_models.embeddings.usual = ReportedUsage(told)
    _vectors, usage = await models.embed(["kettles boil", "parcels arrive"], token_count=5)
    assert usage == EmbeddingUsage(calls=1, estimated_calls=1, prompt_tokens=5)
    _vector, usage = await models.embed_query("how long?")
    assert usage == EmbeddingUsage(calls=1, estimated_calls=1, prompt_tokens=3)


async def test_what_the_server_tells_of_the_cost_counts(models: LlmClient, scripted_models: ScriptedModels) -> None:
    scripted_models.embeddings.usual = ReportedUsage({"prompt_tokens": 11, "total_tokens": 12})
    _vectors, usage = await models.embed(["kettles boil"], token_count=5)
    assert usage == EmbeddingUsage(calls=1, prompt_tokens=11)


async def test_a_query_waits_for_nobody_long(models: LlmClient, scripted_models: ScriptedModels) -> None:
    scripted_models.embeddings.script(Fail(429, retry_after_s=60))
    with pytest.raises(TransientFailure):
        await models.embed_query("how long?")
    assert len(scripted_models.embeddings.requests) == 1


async def test_a_query_that_is_too_long_is_cut_until_it_fits(
    models: LlmClient, scripted_models: ScriptedModels
) -> None:
    scripted_models.embeddings.script(Fail(400, code="context_length_exceeded"), Fail(400))
    await models.embed_query("x" * 5000)
    lengths = [len(request["input"][0]) for request in scripted_models.embeddings.requests]
    assert lengths == [1024, 512, 256]


async def test_a_429_with_retry_after_holds_batches_back_but_no_query_and_no_probe(
    models: LlmClient, scripted_models: ScriptedModels
) -> None:
    scripted_models.embeddings.script(Fail(429, retry_after_s=30))
    with pytest.raises(TransientFailure):
        await models.embed(["text"], token_count=1)
    held = asyncio.create_task(models.embed(["text"], token_count=1))
    await models.embed_query("how long?")
    await models.ping()
    asked = [request["input"] for request in scripted_models.embeddings.requests]
    assert asked == [["text"], ["how long?"], ["ping"]]
    held.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held


async def test_a_503_with_retry_after_holds_nobody_else(models: LlmClient, scripted_models: ScriptedModels) -> None:
    scripted_models.embeddings.script(Fail(503, retry_after_s=30))
    with pytest.raises(TransientFailure):
        await models.embed(["text"], token_count=1)
    async with asyncio.timeout(10):
        await models.embed(["text"], token_count=1)

"""Tests of reranking calls: both protocols, and malformed or failed responses."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from ragsvc.devstack.ports import free_ports
from ragsvc.errors.work import OutageFailure, ProviderRejected, TransientFailure, WorkError
from ragsvc.llm.client import open_llm
from tests.support.servers.rerank_server import RerankServer, serving_reranker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.llm.provider_rate import ProviderRate
    from ragsvc.llm.reranking import HttpReranker
    from ragsvc.settings.settings import Settings

TEXTS = ["the parcel arrives", "descale the kettle", "nothing"]


@pytest.fixture
async def server() -> AsyncIterator[RerankServer]:
    """A reranker server."""
    async with serving_reranker() as serving:
        yield serving


@asynccontextmanager
async def opened(settings: Settings, limit: ProviderRate) -> AsyncIterator[HttpReranker]:
    """Open the reranker that the settings configure."""
    async with open_llm(settings, limit) as models:
        assert models.reranker is not None
        yield models.reranker


async def test_without_a_server_there_is_no_reranker(base_settings: Settings, limit: ProviderRate) -> None:
    async with open_llm(base_settings, limit) as models:
        assert models.reranker is None


async def test_scores_come_in_the_order_of_the_texts(
    server: RerankServer, base_settings: Settings, limit: ProviderRate
) -> None:
    async with opened(server.applied_to(base_settings, rerank_api_key=SecretStr("sesame")), limit) as reranker:
        assert await reranker.score("descale the kettle", TEXTS) == [1 / 3, 1.0, 0.0]
        assert await reranker.score("descale", []) == []
    assert server.requests == [
        {"model": "scripted", "query": "descale the kettle", "documents": TEXTS, "top_n": len(TEXTS)}
    ]
    assert server.keys == ["Bearer sesame"]


async def test_tei_servers_are_supported(server: RerankServer, base_settings: Settings, limit: ProviderRate) -> None:
    settings = server.applied_to(base_settings, rerank_wire="tei", rerank_model=None)
    async with opened(settings, limit) as reranker:
        assert await reranker.score("descale the kettle", TEXTS) == [1 / 3, 1.0, 0.0]
    assert server.requests == [{"query": "descale the kettle", "texts": TEXTS, "truncate": True}]


@pytest.mark.parametrize(
    ("status", "answer", "code", "kind"),
    [
        (200, {"results": []}, "rerank_unavailable", TransientFailure),
        (200, {"results": [{"index": 0, "relevance_score": 1}] * 3}, "rerank_unavailable", TransientFailure),
        (200, [{"index": index, "score": "high"} for index in range(3)], "rerank_unavailable", TransientFailure),
        (200, {"results": [3, 2, 1]}, "rerank_unavailable", TransientFailure),
        (200, "scores", "rerank_unavailable", TransientFailure),
        (401, {"message": "who?"}, "rerank_unauthorized", ProviderRejected),
        (429, {"message": "wait"}, "rerank_rate_limited", TransientFailure),
        (503, {"message": "away"}, "rerank_unavailable", TransientFailure),
    ],
)
async def test_every_failure_has_its_code(
    server: RerankServer,
    base_settings: Settings,
    limit: ProviderRate,
    *,
    status: int,
    answer: object,
    code: str,
    kind: type[WorkError],
) -> None:
    server.status, server.response = status, answer
    async with opened(server.applied_to(base_settings), limit) as reranker:
        with pytest.raises(kind) as caught:
            await reranker.score("descale", TEXTS)
    assert caught.value.work_code == code


async def test_a_server_that_times_out_is_not_called_for_a_while(
    server: RerankServer, base_settings: Settings, limit: ProviderRate
) -> None:
    server.hangs = True
    async with opened(server.applied_to(base_settings, rerank_timeout_s=0.2), limit) as reranker:
        with pytest.raises(TransientFailure) as caught:
            await reranker.score("descale", TEXTS)
        assert caught.value.work_code == "rerank_timeout"
        with pytest.raises(OutageFailure):
            await reranker.score("descale", TEXTS)
    assert len(server.requests) == 1


async def test_an_unreachable_server_is_reported_as_unreachable(base_settings: Settings, limit: ProviderRate) -> None:
    away = RerankServer(url=f"http://127.0.0.1:{free_ports(1)[0]}")
    async with opened(away.applied_to(base_settings), limit) as reranker:
        with pytest.raises(OutageFailure) as caught:
            await reranker.score("descale", TEXTS)
    assert caught.value.work_code == "rerank_unreachable"

"""Tests of reranking: the order of hits, and failures of the reranker."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ragsvc.domain.search import SearchMode
from ragsvc.resources import open_resources
from ragsvc.retrieval.search import search
from tests.support.servers.rerank_server import RerankServer, serving_reranker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.domain.search import SearchHit
    from tests.support.documents.library import Library

QUERY = "descale the kettle"
# The second shares more of the query's words, so the reranker prefers it; the indexes prefer the first.
PARAGRAPHS = ("Kettle, kettle: descale kettles.", "You descale only the kettle", "Parcels arrive within three days.")


@pytest.fixture
async def server() -> AsyncIterator[RerankServer]:
    """A reranker server."""
    async with serving_reranker() as serving:
        yield serving


@asynccontextmanager
async def reranked(library: Library, server: RerankServer, **changes: object) -> AsyncIterator[Library]:
    """Open the library with the resources of a process that has a reranker."""
    settings = server.applied_to(library.resources.settings, **changes)
    async with open_resources(settings, pool_size=2) as resources:
        yield replace(library, resources=resources)


async def find(library: Library, *, mode: SearchMode = SearchMode.HYBRID, limit: int = 10) -> list[SearchHit]:
    """Search the library."""
    return (await search(library.resources, library.workspace_id, query=QUERY, mode=mode, limit=limit)).hits


async def test_hits_have_the_rerankers_order_and_scores(library: Library, server: RerankServer) -> None:
    await library.add(*PARAGRAPHS)
    plain = await find(library)
    async with reranked(library, server) as own:
        hits = await find(own)
    assert plain[0].text == PARAGRAPHS[0]
    assert [hit.text for hit in hits] == [PARAGRAPHS[1], PARAGRAPHS[0], PARAGRAPHS[2]]
    assert [hit.score for hit in hits] == [1.0, 1 / 3, 0.0]
    assert [hit.reranked_score for hit in hits] == [1.0, 1 / 3, 0.0]
    assert [hit.reranked_score for hit in plain] == [None] * 3
    dense = {hit.chunk_id: hit.dense_score for hit in plain}
    assert {hit.chunk_id: hit.dense_score for hit in hits} == dense


async def test_more_candidates_are_reranked_than_hits_are_requested(
    library: Library, server: RerankServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await library.add(*PARAGRAPHS)
    async with reranked(library, server) as own:
        assert [hit.text for hit in await find(own, limit=1)] == [PARAGRAPHS[1]]
    monkeypatch.setattr("ragsvc.retrieval.search.RERANK_CANDIDATES", 2)
    async with reranked(library, server) as own:
        await find(own, limit=1)
    assert [len(request["documents"]) for request in server.requests] == [3, 2]


async def test_the_order_of_the_search_is_unchanged_if_the_reranker_fails(
    library: Library, server: RerankServer
) -> None:
    await library.add(*PARAGRAPHS)
    plain = await find(library)
    server.status = 500
    async with reranked(library, server) as own:
        assert await find(own) == plain
        assert await find(own, limit=2) == plain[:2]
    assert len(server.requests) == 1


@pytest.mark.parametrize("mode", [SearchMode.DENSE, SearchMode.LEXICAL])
async def test_dense_and_lexical_searches_are_not_reranked(
    library: Library, server: RerankServer, mode: SearchMode
) -> None:
    await library.add(*PARAGRAPHS)
    async with reranked(library, server) as own:
        assert await find(own, mode=mode)
    assert not server.requests

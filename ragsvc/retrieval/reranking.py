"""Reorders hits by the relevance that a model computes from query and text together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import structlog

from ragsvc.errors.work import WorkError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ragsvc.domain.search import SearchHit

log = structlog.get_logger(__name__)


class Reranker(Protocol):
    """Scores how relevant texts are to a query."""

    async def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return a score for each text; higher is more relevant.

        Raises:
            WorkError: the model failed.
        """


async def rerank(reranker: Reranker, query: str, *, hits: Sequence[SearchHit]) -> list[SearchHit]:
    """Return the hits with the reranker's scores, most relevant first, or unchanged if it fails."""
    try:
        scores = await reranker.score(query, [hit.text for hit in hits])
    except WorkError as error:
        log.warning("hits_not_reranked", code=error.work_code, error=error.detail)
        return list(hits)
    scored = [replace(hit, score=score, reranked_score=score) for hit, score in zip(hits, scores, strict=True)]
    # The sort is stable, so hits of equal score remain in the order of the search.
    return sorted(scored, key=lambda hit: hit.score, reverse=True)

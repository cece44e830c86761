"""Puts hits in the order in which they answer a query, as a model finds that reads both together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import structlog

from ragsvc.errors import WorkError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ragsvc.domain.search import SearchHit

log = structlog.get_logger(__name__)


class Reranker(Protocol):
    """Tells how relevant texts are to a query."""

    async def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return a score for each text, the higher the more relevant; raises WorkError."""


async def rerank(reranker: Reranker, query: str, *, hits: Sequence[SearchHit]) -> list[SearchHit]:
    """Return the hits with the reranker's scores, the most relevant first; as they are where it fails."""
    try:
        scores = await reranker.score(query, [hit.text for hit in hits])
    except WorkError as error:
        log.warning("hits_not_reranked", code=error.work_code, error=error.detail)
        return list(hits)
    scored = [replace(hit, score=score) for hit, score in zip(hits, scores, strict=True)]
    # Of equally relevant hits the better one of the search stays before.
    return sorted(scored, key=lambda hit: hit.score, reverse=True)

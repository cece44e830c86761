"""Searches a scope for the chunks that best match a query."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from ragsvc.db.search.hits import Candidates, select_hits
from ragsvc.db.search.scope import Scope, Selection, select_scope
from ragsvc.domain.search import FoundHits, SearchMode
from ragsvc.errors.requests import NotFound
from ragsvc.errors.work import OutageFailure, TransientFailure
from ragsvc.retrieval.filter_cost import check_filter_cost, explaining_timeouts
from ragsvc.retrieval.filters import compile_filter
from ragsvc.retrieval.reranking import rerank
from ragsvc.tasks import abandon
from ragsvc.telemetry.metrics import RETRIEVAL_DURATION
from ragsvc.telemetry.traces import span

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import numpy as np
    from numpy.typing import NDArray

    from ragsvc.domain.search import SearchHit
    from ragsvc.resources import Resources
    from ragsvc.retrieval.filters import Filter

log = structlog.get_logger(__name__)

# Candidates from each index before fusion: at least FETCHED, and FETCHED_PER_HIT for each requested hit.
FETCHED = 50
FETCHED_PER_HIT = 2
# If folding equal chunks leaves too few hits, more candidates are fetched, up to this number.
MOST_FETCHED = 800
FETCHED_GROWTH = 4
# Candidates that a reranker scores. More would cost time and rarely change the first hits.
RERANK_CANDIDATES = 50
# With at most this many chunks in scope, dense search scans them all, which is exact and about as fast as the index.
EXACT_SCAN_MAX_CHUNKS = 10_000
# Longer queries are truncated.
MAX_QUERY_CHARS = 4000


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """A query and its scope; `collection_ids` of None means all collections of the workspace.

    `folds_duplicates` makes one hit of equal chunks. `may_degrade` lets a hybrid search do without the embedding model.
    """

    query: str
    collection_ids: tuple[UUID, ...] | None = None
    filters: Filter | None = None
    limit: int = 10
    mode: SearchMode = SearchMode.HYBRID
    min_score: float | None = None
    folds_duplicates: bool = True
    may_degrade: bool = False

    @property
    def text(self) -> str:
        """The query, truncated and without NUL, which a model can generate but Postgres rejects."""
        return self.query[:MAX_QUERY_CHARS].replace("\0", " ")

    @property
    def needs_vector(self) -> bool:
        """Whether the query must be embedded, also for `min_score`, which is a cosine similarity in every mode."""
        return self.mode is not SearchMode.LEXICAL or self.min_score is not None


async def search(
    resources: Resources,
    workspace_id: UUID,
    *,
    query: str,
    collection_ids: Sequence[UUID] | None = None,
    filters: Filter | None = None,
    limit: int = 10,
    mode: SearchMode = SearchMode.HYBRID,
    min_score: float | None = None,
    folds_duplicates: bool = True,
) -> FoundHits:
    """Return at most `limit` hits of live documents, best first.

    A hybrid search without `min_score` is lexical while the embedding model is away.

    Raises:
        NotFound: one of the collections does not belong to the workspace.
        InvalidRequest: the filter is too large or invalid.
        Unavailable: the search took too long.
        WorkError: the embedding model failed or rejected the query.
    """
    request = SearchRequest(
        query=query,
        collection_ids=None if collection_ids is None else tuple(dict.fromkeys(collection_ids)),
        filters=filters,
        limit=limit,
        mode=mode,
        min_score=min_score,
        folds_duplicates=folds_duplicates,
        may_degrade=mode is SearchMode.HYBRID and min_score is None,
    )
    return await find_hits(resources, workspace_id, request)


async def find_hits(
    resources: Resources, workspace_id: UUID, request: SearchRequest, *, skips_unknown_collections: bool = False
) -> FoundHits:
    """Return the hits of a request; raises like `search`, but can skip collections that no longer exist."""
    with span("retrieve", attributes={"ragsvc.mode": request.mode}), RETRIEVAL_DURATION.labels(request.mode).time():
        return await _find(resources, workspace_id, request, skips_unknown_collections=skips_unknown_collections)


async def _find(
    resources: Resources, workspace_id: UUID, request: SearchRequest, *, skips_unknown_collections: bool
) -> FoundHits:
    selection = Selection(request.collection_ids, compile_filter(request.filters))
    embedding = asyncio.create_task(_embed(resources, workspace_id, request))
    try:
        scope = await _measure(resources, workspace_id, selection)
        if scope.collections < len(request.collection_ids or ()) and not skips_unknown_collections:
            raise NotFound("One of the collections does not exist.")
        vector, mode = await _await_vector(embedding, request) if scope.chunks else (None, request.mode)
    finally:
        abandon(embedding)
    degraded = () if mode is request.mode else (SearchMode.DENSE,)
    if not scope.chunks:
        return FoundHits([])
    reranker = resources.llm.reranker if request.mode is SearchMode.HYBRID else None
    limit = max(request.limit, RERANK_CANDIDATES) if reranker else request.limit
    wanted = replace(request, mode=mode, limit=limit)
    hits = await _select(resources, workspace_id, wanted, selection=selection, scope=scope, vector=vector)
    if reranker:
        hits = (await rerank(reranker, request.text, hits=hits))[: request.limit]
    return FoundHits(hits, degraded)


async def _await_vector(
    embedding: asyncio.Task[NDArray[np.float32] | None], request: SearchRequest
) -> tuple[NDArray[np.float32] | None, SearchMode]:
    """Return the query's vector, and the mode of the search, which is lexical if it does without a vector."""
    try:
        return await embedding, request.mode
    except (TransientFailure, OutageFailure) as error:
        if not request.may_degrade:
            raise
        log.warning("search_degraded", code=error.work_code, error=error.detail)
        return None, SearchMode.LEXICAL


async def _measure(resources: Resources, workspace_id: UUID, selection: Selection) -> Scope:
    async with resources.pool.acquire() as conn:
        await check_filter_cost(conn, workspace_id, selection)
        with explaining_timeouts():
            return await select_scope(conn, workspace_id, selection)


async def _embed(resources: Resources, workspace_id: UUID, request: SearchRequest) -> NDArray[np.float32] | None:
    if not request.needs_vector:
        return None
    vector, usage = await resources.llm.embed_query(request.text, workspace_id)
    # Record the usage here, since the caller discards the vector if the scope is empty.
    resources.query_usage.note(workspace_id, usage)
    return vector


async def _select(
    resources: Resources,
    workspace_id: UUID,
    request: SearchRequest,
    *,
    selection: Selection,
    scope: Scope,
    vector: NDArray[np.float32] | None,
) -> list[SearchHit]:
    fetched = max(FETCHED, FETCHED_PER_HIT * request.limit)
    while True:
        hits = await _select_once(
            resources, workspace_id, request, selection=selection, scope=scope, vector=vector, fetched=fetched
        )
        candidates = sum(1 + len(hit.duplicates) for hit in hits)
        # Fewer candidates than wanted means that there are no more.
        if len(hits) == request.limit or candidates == len(hits) or candidates < fetched or fetched >= MOST_FETCHED:
            return hits
        fetched = min(FETCHED_GROWTH * fetched, MOST_FETCHED)


async def _select_once(
    resources: Resources,
    workspace_id: UUID,
    request: SearchRequest,
    *,
    selection: Selection,
    scope: Scope,
    vector: NDArray[np.float32] | None,
    fetched: int,
) -> list[SearchHit]:
    settings = resources.settings
    candidates = Candidates(
        query_vector=vector,
        words=request.text,
        text_search_config=settings.answering.text_search_config,
        fetched=fetched,
        dense_weight=settings.answering.dense_weight,
        lexical_weight=settings.answering.lexical_weight,
        min_score=request.min_score,
        folds=request.folds_duplicates,
    )
    async with resources.pool.acquire() as conn:
        with explaining_timeouts():
            return await select_hits(
                conn,
                workspace_id,
                selection,
                scope=scope,
                mode=request.mode,
                candidates=candidates,
                limit=request.limit,
                table=resources.space.table,
                is_small=scope.chunks <= EXACT_SCAN_MAX_CHUNKS,
            )

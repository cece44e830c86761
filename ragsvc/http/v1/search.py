"""Search: /v1/search."""

from __future__ import annotations

from typing import Annotated, Literal

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from ragsvc.domain.ids import format_id
from ragsvc.domain.search import Duplicate, SearchHit, SearchMode
from ragsvc.domain.workspaces import Scope
from ragsvc.errors.requests import NotFound, ProviderRefused
from ragsvc.http.auth import caller_of
from ragsvc.http.contract.bodies import Body, read_body
from ragsvc.http.contract.filters import FilterBody, read_filter
from ragsvc.http.contract.ids import CollectionId, ShownChunkId, ShownDocumentId
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.rendering import json_response
from ragsvc.http.state import resources_of
from ragsvc.retrieval.search import MAX_QUERY_CHARS, search

routes = web.RouteTableDef()

MAX_HITS = 100
MAX_COLLECTIONS = 100

CollectionIds = Annotated[list[CollectionId], Field(min_length=1, max_length=MAX_COLLECTIONS)]


class SearchBody(Body):
    """What to search for, and where; `min_score` is a cosine similarity in every mode."""

    query: Annotated[str, Field(min_length=1, max_length=MAX_QUERY_CHARS, pattern=r"\S")]
    collection_ids: CollectionIds | None = None
    filters: FilterBody | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_HITS)] = 10
    mode: SearchMode = SearchMode.HYBRID
    min_score: Annotated[float, Field(ge=-1, le=1)] | None = None
    fold_duplicates: bool = True


class ScoresView(TypedDict):
    """What `score` is made of: cosine similarity, lexical score, and the reranker's score; null without one."""

    dense: float | None
    lexical: float | None
    reranked: float | None


class DuplicateView(TypedDict):
    """A chunk with the same text and headings as the hit."""

    chunk_id: ShownChunkId
    document_id: ShownDocumentId
    filename: str


class SearchHitView(TypedDict):
    """A chunk that was found; `score` orders the hits of one search and is not comparable across searches."""

    chunk_id: ShownChunkId
    document_id: ShownDocumentId
    filename: str
    version: int
    ordinal: int
    score: float
    scores: ScoresView
    text: str
    page_first: int | None
    page_last: int | None
    heading_path: list[str]
    char_start: int
    char_end: int
    attributes: dict[str, object]
    duplicates: list[DuplicateView]


class SearchView(TypedDict):
    """The hits, best first; `degraded` is empty if all indexes of the mode were used."""

    data: list[SearchHitView]
    degraded: list[Literal["dense"]]


def render_hit(hit: SearchHit) -> SearchHitView:
    """Return a search hit as JSON."""
    return {
        "chunk_id": format_id("chunk", hit.chunk_id),
        "document_id": format_id("doc", hit.document_id),
        "filename": hit.filename,
        "version": hit.version,
        "ordinal": hit.ordinal,
        "score": hit.score,
        "scores": {"dense": hit.dense_score, "lexical": hit.lexical_score, "reranked": hit.reranked_score},
        "text": hit.text,
        "page_first": hit.page_first,
        "page_last": hit.page_last,
        "heading_path": list(hit.heading_path),
        "char_start": hit.char_start,
        "char_end": hit.char_end,
        "attributes": hit.attributes,
        "duplicates": [_render_duplicate(duplicate) for duplicate in hit.duplicates],
    }


def _render_duplicate(duplicate: Duplicate) -> DuplicateView:
    return {
        "chunk_id": format_id("chunk", duplicate.chunk_id),
        "document_id": format_id("doc", duplicate.document_id),
        "filename": duplicate.filename,
    }


@routes.post("/v1/search")
@operation("Search", Scope.READ, body=SearchBody, responses={200: SearchView}, problems=(NotFound, ProviderRefused))
async def search_chunks(request: web.Request) -> web.Response:
    """Return the chunks that match best."""
    caller = caller_of(request)
    body = await read_body(request, SearchBody)
    found = await search(
        resources_of(request),
        caller.workspace.id,
        query=body.query,
        collection_ids=body.collection_ids,
        filters=read_filter(body.filters),
        limit=body.limit,
        mode=body.mode,
        min_score=body.min_score,
        folds_duplicates=body.fold_duplicates,
    )
    view: SearchView = {
        "data": [render_hit(hit) for hit in found.hits],
        "degraded": ["dense" for _index in found.degraded],
    }
    return json_response(view)

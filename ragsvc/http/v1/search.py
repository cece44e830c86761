"""Search: /v1/search."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from pydantic import Field

from ragsvc.domain.search import SearchMode
from ragsvc.domain.workspaces import Scope
from ragsvc.errors import NotFound, ProviderRefused
from ragsvc.http.auth import caller_of
from ragsvc.http.chat_rendering import render_hit
from ragsvc.http.chat_views import SearchView
from ragsvc.http.contract.bodies import Body, read_body
from ragsvc.http.contract.filters import FilterBody, read_filter
from ragsvc.http.contract.ids import CollectionId
from ragsvc.http.contract.operations import operation
from ragsvc.http.rendering import json_response
from ragsvc.http.state import resources_of
from ragsvc.retrieval.search import MAX_QUERY_CHARS, search

routes = web.RouteTableDef()

MAX_HITS = 100
MAX_COLLECTIONS = 100

CollectionIds = Annotated[list[CollectionId], Field(min_length=1, max_length=MAX_COLLECTIONS)]


class SearchBody(Body):
    """What to look for and where; `min_score` is a cosine in every mode."""

    query: Annotated[str, Field(min_length=1, max_length=MAX_QUERY_CHARS, pattern=r"\S")]
    collection_ids: CollectionIds | None = None
    filters: FilterBody | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_HITS)] = 10
    mode: SearchMode = SearchMode.HYBRID
    min_score: Annotated[float, Field(ge=-1, le=1)] | None = None


@routes.post("/v1/search")
@operation("Search", Scope.READ, body=SearchBody, responses={200: SearchView}, problems=(NotFound, ProviderRefused))
async def search_chunks(request: web.Request) -> web.Response:
    """Answer the chunks that fit best."""
    caller = caller_of(request)
    body = await read_body(request, SearchBody)
    hits = await search(
        resources_of(request),
        caller.workspace.id,
        query=body.query,
        collection_ids=body.collection_ids,
        filters=read_filter(body.filters),
        limit=body.limit,
        mode=body.mode,
        min_score=body.min_score,
    )
    view: SearchView = {"data": [render_hit(hit) for hit in hits]}
    return json_response(view)

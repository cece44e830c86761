"""The list of documents: GET /v1/documents."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, NotRequired

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from ragsvc.db import documents
from ragsvc.domain.documents import DocumentStatus  # noqa: TC001 - pydantic reads the annotations
from ragsvc.domain.workspaces import Scope
from ragsvc.errors.requests import InvalidJson, InvalidRequest, NotFound, Unavailable
from ragsvc.http.auth import caller_of
from ragsvc.http.contract.bodies import MAX_NAME_CHARS, Body, Time, parse_body, read_query
from ragsvc.http.contract.filters import FilterBody, read_filter
from ragsvc.http.contract.ids import CollectionId  # noqa: TC001 - pydantic reads the annotations
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.paging import PageQuery, page_by_id
from ragsvc.http.contract.rendering import json_response
from ragsvc.http.state import resources_of
from ragsvc.http.v1.documents import DocumentView, render_document
from ragsvc.retrieval.filters import compile_filter
from ragsvc.tenants.collections import get_collection

if TYPE_CHECKING:
    from ragsvc.retrieval.filters import Filter

routes = web.RouteTableDef()


class DocumentsQuery(PageQuery):
    """Which documents to list."""

    collection_id: CollectionId | None = None
    status: DocumentStatus | None = None
    filename_contains: Annotated[
        str | None,
        Field(min_length=1, max_length=MAX_NAME_CHARS, description="A part of the file's name, in any case."),
    ] = None
    filters: Annotated[
        str | None,
        Field(min_length=2, max_length=4000, description="A filter over attributes, as in a search, as JSON."),
    ] = None
    created_from: Annotated[Time | None, Field(description="Only documents created at or after this time.")] = None
    created_until: Annotated[Time | None, Field(description="Only documents created before this time.")] = None
    sort: Annotated[
        Literal["-created_at", "created_at"], Field(description="Newest first, or with `created_at` oldest first.")
    ] = "-created_at"
    count: Annotated[bool, Field(description="Also return the number of all these documents as `total`.")] = False


class AttributeFilter(Body):
    """A filter in a query string."""

    filters: FilterBody


class DocumentPageView(TypedDict):
    """One page of the documents; `next_cursor` is null on the last page."""

    data: list[DocumentView]
    next_cursor: str | None
    total: NotRequired[int]


@routes.get("/v1/documents")
@operation(
    "List the documents",
    Scope.READ,
    query=DocumentsQuery,
    responses={200: DocumentPageView},
    problems=(NotFound,),
)
async def list_documents(request: web.Request) -> web.Response:
    """Return one page of the selected documents."""
    caller = caller_of(request)
    query = read_query(request, DocumentsQuery)
    if query.collection_id is not None:
        await get_collection(resources_of(request), caller.workspace.id, query.collection_id)
    selection = _selection_of(query)
    try:
        async with resources_of(request).pool.acquire() as conn:
            found = await documents.select_documents(
                conn,
                caller.workspace.id,
                selection,
                after=query.cursor,
                limit=query.limit + 1,
                is_oldest_first=query.sort == "created_at",
            )
            total = await documents.count_documents(conn, caller.workspace.id, selection) if query.count else None
    except TimeoutError:
        raise Unavailable("The list took too long: narrow it, or try again.") from None
    shown = page_by_id(found, query.limit, partial(render_document, current=resources_of(request).space))
    page: DocumentPageView = {"data": shown["data"], "next_cursor": shown["next_cursor"]}
    if total is not None:
        page["total"] = total
    return json_response(page)


def _selection_of(query: DocumentsQuery) -> documents.ListedDocuments:
    attributes = compile_filter(_read_filters(query.filters) if query.filters else None)
    return documents.ListedDocuments(
        collection_id=query.collection_id,
        status=query.status,
        filename_contains=query.filename_contains,
        created_from=query.created_from,
        created_until=query.created_until,
        contains=attributes.contains,
        path=attributes.path,
        variables=attributes.variables or {},
    )


def _read_filters(text: str) -> Filter | None:
    try:
        body = parse_body(b'{"filters": %b}' % text.encode(), AttributeFilter)
    except InvalidJson:
        raise InvalidRequest(fields={"filters": "must be a filter as JSON"}) from None
    return read_filter(body.filters)

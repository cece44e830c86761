"""Documents that are searched together: /v1/collections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from aiohttp import web
from pydantic import Field, WithJsonSchema, field_validator
from typing_extensions import TypedDict

from ragsvc.deletion.requests import request_collection_deletion
from ragsvc.domain.collections import Chunking, Collection
from ragsvc.domain.ids import format_id
from ragsvc.domain.workspaces import Scope
from ragsvc.errors.requests import DefaultCollection, InvalidRequest, NameTaken
from ragsvc.http.auth import caller_of
from ragsvc.http.contract.bodies import MAX_NAME_CHARS, Body, Metadata, Name, read_body, read_query
from ragsvc.http.contract.ids import ShownCollectionId, ShownTime, parse_id
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.paging import Page, PageQuery, page_by_id
from ragsvc.http.contract.rendering import JsonObject, json_response, render_time
from ragsvc.http.idempotency import resource_id_of
from ragsvc.http.state import resources_of
from ragsvc.http.v1.deletions import AcceptedDeletionView, render_accepted_deletion
from ragsvc.tenants import collections

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.settings.settings import Settings

routes = web.RouteTableDef()

MIN_CHUNK_TOKENS = 16
MAX_CHUNK_TOKENS = 4096


class ChunkingBody(Body):
    """How the collection's texts are split into chunks; adjacent chunks share `overlap_tokens`."""

    max_tokens: Annotated[int, Field(ge=MIN_CHUNK_TOKENS, le=MAX_CHUNK_TOKENS)]
    overlap_tokens: Annotated[int, Field(ge=0, le=MAX_CHUNK_TOKENS // 2)]


class CollectionBody(Body):
    """A new collection."""

    name: Name
    chunking: ChunkingBody | None = None
    metadata: Metadata = Field(default_factory=dict)


class CollectionChanges(Body):
    """Changes to a collection; absent fields are unchanged, and a null `chunking` restores the service's default."""

    # None means that the field is absent; clients cannot send null.
    name: Annotated[Name | None, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_NAME_CHARS})] = None
    chunking: ChunkingBody | None = None
    metadata: Annotated[Metadata | None, WithJsonSchema({"type": "object"})] = None

    @field_validator("name", "metadata")
    @classmethod
    def _refuse_null(cls, value: object) -> object:
        if value is None:
            raise ValueError("must not be null")
        return value


def read_chunking(body: ChunkingBody | None, settings: Settings) -> Chunking | None:
    """Return the chunking after checking that the embedding model accepts chunks of this size.

    Raises:
        InvalidRequest: the chunks are too large, or the overlap is not smaller than a chunk.
    """
    if body is None:
        return None
    max_tokens = settings.llm.embedding_max_input_tokens
    if body.max_tokens > max_tokens:
        reason = f"{settings.llm.embedding_model} accepts at most {max_tokens} tokens per text"
        raise InvalidRequest(fields={"chunking.max_tokens": reason})
    if body.overlap_tokens >= body.max_tokens:
        raise InvalidRequest(fields={"chunking.overlap_tokens": "must be smaller than max_tokens"})
    return Chunking(max_tokens=body.max_tokens, overlap_tokens=body.overlap_tokens)


class ChunkingView(TypedDict):
    """How a collection's texts are split into chunks."""

    max_tokens: int
    overlap_tokens: int


class CollectionView(TypedDict):
    """A collection; `chunking` is null if the service's default applies."""

    id: ShownCollectionId
    object: Literal["collection"]
    name: str
    is_default: bool
    chunking: ChunkingView | None
    metadata: JsonObject
    created_at: ShownTime
    updated_at: ShownTime


def render_collection(collection: Collection) -> CollectionView:
    """Return a collection."""
    return {
        "id": format_id("col", collection.id),
        "object": "collection",
        "name": collection.name,
        "is_default": collection.is_default,
        "chunking": _render_chunking(collection.chunking),
        "metadata": collection.metadata,
        "created_at": render_time(collection.created_at),
        "updated_at": render_time(collection.updated_at),
    }


def _render_chunking(chunking: Chunking | None) -> ChunkingView | None:
    return {"max_tokens": chunking.max_tokens, "overlap_tokens": chunking.overlap_tokens} if chunking else None


async def _respond_again(request: web.Request, collection_id: UUID) -> web.Response | None:
    collection = await collections.find_collection(
        resources_of(request), caller_of(request).workspace.id, collection_id
    )
    return json_response(render_collection(collection), status=201) if collection else None


@routes.post("/v1/collections")
@operation(
    "Create a collection",
    Scope.WRITE,
    body=CollectionBody,
    responses={201: CollectionView},
    problems=(NameTaken,),
    again=_respond_again,
)
async def create_collection(request: web.Request) -> web.Response:
    """Create a collection."""
    caller = caller_of(request)
    resources = resources_of(request)
    body = await read_body(request, CollectionBody)
    collection = await collections.create_collection(
        resources,
        caller.workspace.id,
        resource_id_of(request),
        name=body.name,
        chunking=read_chunking(body.chunking, resources.settings),
        metadata=body.metadata,
    )
    return json_response(render_collection(collection), status=201)


@routes.get("/v1/collections")
@operation("List the collections", Scope.READ, query=PageQuery, responses={200: Page[CollectionView]})
async def list_collections(request: web.Request) -> web.Response:
    """Return one page of the collections."""
    caller = caller_of(request)
    query = read_query(request, PageQuery)
    found = await collections.list_collections(
        resources_of(request), caller.workspace.id, before=query.cursor, limit=query.limit + 1
    )
    return json_response(page_by_id(found, query.limit, render_collection))


@routes.get("/v1/collections/{collection_id}")
@operation("Show a collection", Scope.READ, responses={200: CollectionView})
async def get_collection(request: web.Request) -> web.Response:
    """Return one collection."""
    caller = caller_of(request)
    collection_id = parse_id("col", request.match_info["collection_id"])
    collection = await collections.get_collection(resources_of(request), caller.workspace.id, collection_id)
    return json_response(render_collection(collection))


@routes.patch("/v1/collections/{collection_id}")
@operation(
    "Update a collection",
    Scope.WRITE,
    body=CollectionChanges,
    responses={200: CollectionView},
    problems=(NameTaken,),
)
async def update_collection(request: web.Request) -> web.Response:
    """Update a collection; a new chunking applies to documents ingested from now on."""
    caller = caller_of(request)
    resources = resources_of(request)
    collection_id = parse_id("col", request.match_info["collection_id"])
    body = await read_body(request, CollectionChanges)
    collection = await collections.update_collection(
        resources,
        caller.workspace.id,
        collection_id,
        name=body.name,
        metadata=body.metadata,
        sets_chunking="chunking" in body.model_fields_set,
        chunking=read_chunking(body.chunking, resources.settings),
    )
    return json_response(render_collection(collection))


@routes.delete("/v1/collections/{collection_id}")
@operation(
    "Delete a collection and its documents",
    Scope.WRITE,
    responses={202: AcceptedDeletionView},
    problems=(DefaultCollection,),
)
async def delete_collection(request: web.Request) -> web.Response:
    """Accept the deletion; from now on searches do not return the collection's documents."""
    caller = caller_of(request)
    resources = resources_of(request)
    collection_id = parse_id("col", request.match_info["collection_id"])
    await collections.refuse_default_collection(resources, caller.workspace.id, collection_id)
    deletion = await request_collection_deletion(resources, caller.workspace.id, collection_id)
    return json_response(render_accepted_deletion(deletion), status=202)

"""Upload sessions, for files of any size: /v1/uploads."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from ragsvc.db import upload_sessions
from ragsvc.domain.ids import format_id
from ragsvc.domain.uploads import Upload, UploadStatus
from ragsvc.domain.workspaces import Scope
from ragsvc.errors.requests import (
    DigestMismatch,
    EmptyFile,
    NotFound,
    PartNumberOutOfRange,
    PartSizeMismatch,
    PartsMissing,
    QuotaExceeded,
    TooLarge,
    UploadNotPending,
)
from ragsvc.http.auth import caller_of
from ragsvc.http.contract.bodies import Attributes, Body, read_body, read_query
from ragsvc.http.contract.filenames import clean_filename, mime_type_of
from ragsvc.http.contract.headers import CONTENT_MD5, REPR_DIGEST
from ragsvc.http.contract.ids import (
    CollectionId,
    ShownCollectionId,
    ShownDocumentId,
    ShownTime,
    ShownUploadId,
    parse_id,
)
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.paging import Page, PageQuery, page_by_id
from ragsvc.http.contract.rendering import JsonObject, json_response, render_time
from ragsvc.http.idempotency import reserve_anew, resource_id_of
from ragsvc.http.key_checks import KEY_CHECKS
from ragsvc.http.state import resources_of
from ragsvc.http.v1.collections import ChunkingBody, read_chunking
from ragsvc.http.v1.documents import DocumentView, render_document
from ragsvc.media_types.content_types import bare_type
from ragsvc.storage.clients import PRESIGN_EXPIRES_S
from ragsvc.uploads import completion, sessions
from ragsvc.uploads.part_streams import read_digests, receive_part

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from ragsvc.storage.objects import StoredPart
    from ragsvc.uploads.sessions import UploadState

routes = web.RouteTableDef()

BLOCK_BYTES = 256 * 1024
MAX_URLS = 1000
SHA256_HEX = r"^[0-9a-fA-F]{64}$"


class UploadBody(Body):
    """A file to be sent in parts; without `collection_id` it goes into the default collection."""

    filename: Annotated[str, Field(min_length=1, max_length=1024)]
    # A size of zero is refused later, with its own error `empty_file`.
    size_bytes: Annotated[int, Field(ge=0, json_schema_extra={"minimum": 1})]
    mime_type: Annotated[str, Field(max_length=200)] = ""
    sha256: Annotated[str, Field(pattern=SHA256_HEX)] | None = None
    collection_id: CollectionId | None = None
    attributes: Attributes = Field(default_factory=dict)
    chunking: ChunkingBody | None = None


class PartUrlsBody(Body):
    """Which parts the client is about to send."""

    part_numbers: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=MAX_URLS)]


class UploadsQuery(PageQuery):
    """Which sessions to list."""

    status: UploadStatus | None = None


class PartView(TypedDict):
    """A part in the object store."""

    part_number: int
    size_bytes: int
    etag: str


class UploadErrorView(TypedDict):
    """Why an upload failed."""

    code: str
    message: str


class UploadView(TypedDict):
    """An upload session; every part except the last has `part_size_bytes`.

    In a session opened with an upload token, sizes and part count are 0 until they are known.
    """

    id: ShownUploadId
    object: Literal["upload"]
    status: UploadStatus
    filename: str
    mime_type: str
    size_bytes: int
    part_size_bytes: int
    part_count: int
    collection_id: ShownCollectionId | None
    attributes: JsonObject
    document_id: ShownDocumentId | None
    error: UploadErrorView | None
    expires_at: ShownTime
    created_at: ShownTime


class ReceivedPartView(TypedDict):
    """A part that was received; `etag` is null once the parts are joined into one file."""

    part_number: int
    size_bytes: int
    etag: str | None


class UploadStateView(UploadView):
    """An upload session with its received parts and the numbers of the missing ones."""

    received: list[ReceivedPartView]
    missing: list[int]
    received_bytes: int


class PartUrlView(TypedDict):
    """A URL that accepts one part by PUT."""

    part_number: int
    url: str
    size_bytes: int


class PartUrlsView(TypedDict):
    """URLs for sending parts directly to the object store, until they expire."""

    data: list[PartUrlView]
    expires_in_s: int


def render_upload(upload: Upload) -> UploadView:
    """Return an upload session."""
    return {
        "id": format_id("upl", upload.id),
        "object": "upload",
        "status": upload.status,
        "filename": upload.filename,
        "mime_type": bare_type(upload.mime_type),
        "size_bytes": upload.size_bytes,
        "part_size_bytes": upload.part_size_bytes or 0,
        "part_count": upload.part_count,
        "collection_id": format_id("col", upload.collection_id) if upload.collection_id else None,
        "attributes": upload.attributes,
        "document_id": format_id("doc", upload.document_id) if upload.document_id else None,
        "error": {"code": upload.error["code"], "message": upload.error["message"]} if upload.error else None,
        "expires_at": render_time(upload.expires_at),
        "created_at": render_time(upload.created_at),
    }


def render_upload_state(state: UploadState) -> UploadStateView:
    """Return an upload session with its parts."""
    received = _render_received(state)
    return {
        **render_upload(state.upload),
        "received": received,
        "missing": list(state.missing),
        "received_bytes": sum(part["size_bytes"] for part in received),
    }


def _render_received(state: UploadState) -> list[ReceivedPartView]:
    """Return the parts in the store, or all parts of a completed upload, although the store no longer lists them."""
    upload = state.upload
    if upload.status is UploadStatus.COMPLETED:
        numbers = range(1, upload.part_count + 1)
        return [{"part_number": number, "size_bytes": upload.size_of_part(number), "etag": None} for number in numbers]
    return [{"part_number": part.number, "size_bytes": part.size_bytes, "etag": part.etag} for part in state.received]


def render_part(part: StoredPart) -> PartView:
    """Return a part in the object store."""
    return {"part_number": part.number, "size_bytes": part.size_bytes, "etag": part.etag}


async def _respond_again(request: web.Request, upload_id: UUID) -> web.Response | None:
    async with resources_of(request).pool.acquire() as conn:
        upload = await upload_sessions.select_upload(conn, caller_of(request).workspace.id, upload_id)
    if upload is None:
        return None
    if upload.status in {UploadStatus.ABORTED, UploadStatus.FAILED, UploadStatus.EXPIRED}:
        reserve_anew(request)
        return None
    if upload.status is UploadStatus.PENDING and upload.s3_upload_id is None:
        upload = await sessions.open_in_store(resources_of(request), upload)
    return json_response(render_upload(upload), status=201)


@routes.post("/v1/uploads")
@operation(
    "Open an upload session",
    Scope.UPLOAD,
    Scope.WRITE,
    body=UploadBody,
    responses={201: UploadView},
    problems=(NotFound, EmptyFile, TooLarge, QuotaExceeded),
    again=_respond_again,
)
async def create_upload(request: web.Request) -> web.Response:
    """Open a session; its parts can be sent in any order and in parallel, to the API or to presigned URLs."""
    resources, caller = resources_of(request), caller_of(request)
    body = await read_body(request, UploadBody)
    if body.size_bytes == 0:
        raise EmptyFile
    filename = clean_filename(body.filename)
    chunking = read_chunking(body.chunking, resources.settings)
    upload = await sessions.open_session(
        resources,
        caller.workspace,
        upload_id=resource_id_of(request),
        filename=filename,
        size_bytes=body.size_bytes,
        mime_type=mime_type_of(body.mime_type, filename),
        sha256=bytes.fromhex(body.sha256) if body.sha256 else None,
        collection_id=body.collection_id,
        attributes=body.attributes,
        chunking=asdict(chunking) if chunking else None,
    )
    return json_response(render_upload(upload), status=201)


@routes.get("/v1/uploads")
@operation("List the upload sessions", Scope.UPLOAD, Scope.READ, query=UploadsQuery, responses={200: Page[UploadView]})
async def list_uploads(request: web.Request) -> web.Response:
    """Return one page of the sessions, optionally of one status."""
    query = read_query(request, UploadsQuery)
    async with resources_of(request).pool.acquire() as conn:
        found = await upload_sessions.select_uploads(
            conn,
            caller_of(request).workspace.id,
            status=query.status,
            before=query.cursor,
            limit=query.limit + 1,
        )
    return json_response(page_by_id(found, query.limit, render_upload))


@routes.get("/v1/uploads/{upload_id}")
@operation("Show an upload session with its parts", Scope.UPLOAD, Scope.READ, responses={200: UploadStateView})
async def get_upload(request: web.Request) -> web.Response:
    """Return the received and the missing parts, so that a client can resume after any interruption."""
    state = await sessions.load_state(resources_of(request), caller_of(request).workspace.id, _upload_id(request))
    return json_response(render_upload_state(state))


@routes.put("/v1/uploads/{upload_id}/parts/{part_number}")
@operation(
    "Send a part",
    Scope.UPLOAD,
    Scope.WRITE,
    raw_body="application/octet-stream",
    headers=(CONTENT_MD5, REPR_DIGEST),
    responses={200: PartView},
    problems=(NotFound, UploadNotPending, PartNumberOutOfRange, PartSizeMismatch, DigestMismatch),
)
async def upload_part(request: web.Request) -> web.Response:
    """Stream a part's bytes into the object store; sending the part again replaces it."""
    part = await receive_part(
        resources_of(request),
        caller_of(request).workspace.id,
        _upload_id(request),
        number=read_part_number(request),
        size_bytes=request.content_length,
        digests=read_digests(request.headers),
        source=request.app[KEY_CHECKS].while_valid(read_blocks(request)),
    )
    return json_response(render_part(part))


@routes.post("/v1/uploads/{upload_id}/part-urls")
@operation(
    "Presign URLs for parts",
    Scope.UPLOAD,
    Scope.WRITE,
    body=PartUrlsBody,
    responses={200: PartUrlsView},
    problems=(NotFound, UploadNotPending, PartNumberOutOfRange),
)
async def create_part_urls(request: web.Request) -> web.Response:
    """Return URLs that accept the parts by PUT, directly into the object store."""
    resources, upload_id = resources_of(request), _upload_id(request)
    workspace_id = caller_of(request).workspace.id
    body = await read_body(request, PartUrlsBody)
    upload = await sessions.load_session(resources, workspace_id, upload_id)
    urls = await sessions.presign_parts(resources, workspace_id, upload_id, body.part_numbers)
    data = [
        {"part_number": number, "url": url, "size_bytes": upload.size_of_part(number)} for number, url in urls.items()
    ]
    return json_response({"data": data, "expires_in_s": PRESIGN_EXPIRES_S})


@routes.post("/v1/uploads/{upload_id}/complete")
@operation(
    "Complete an upload session",
    Scope.UPLOAD,
    Scope.WRITE,
    responses={200: DocumentView},
    problems=(NotFound, UploadNotPending, PartsMissing, PartSizeMismatch, TooLarge, QuotaExceeded),
)
async def complete_upload(request: web.Request) -> web.Response:
    """Create a document from the parts; repeated calls return the same document."""
    document = await completion.complete_session(
        resources_of(request), caller_of(request).workspace.id, _upload_id(request)
    )
    return json_response(render_document(document, resources_of(request).space))


@routes.delete("/v1/uploads/{upload_id}")
@operation(
    "Abort an upload session",
    Scope.UPLOAD,
    Scope.WRITE,
    responses={204: None},
    problems=(NotFound, UploadNotPending),
)
async def abort_upload(request: web.Request) -> web.Response:
    """Abort the session and delete its parts."""
    await sessions.abort_session(resources_of(request), caller_of(request).workspace.id, _upload_id(request))
    return web.Response(status=204)


def _upload_id(request: web.Request) -> UUID:
    return parse_id("upl", request.match_info["upload_id"])


def read_part_number(request: web.Request) -> int:
    """Return the part number in the path; raises PartNumberOutOfRange if it is not a number."""
    text = request.match_info["part_number"]
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):  # noqa: PLR2004 - more digits than any part number has
        raise PartNumberOutOfRange
    return int(text)


async def read_blocks(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the request's body in blocks."""
    async for block in request.content.iter_chunked(BLOCK_BYTES):
        yield block

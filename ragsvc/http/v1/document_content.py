"""A document's source file, canonical text and chunks: /v1/documents/{id}/content, …/text, …/chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import orjson
from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from ragsvc.db import canonical_text, chunks, files
from ragsvc.domain.documents import DocumentStatus
from ragsvc.domain.ids import format_id
from ragsvc.domain.workspaces import Scope
from ragsvc.errors.requests import (
    DocumentDeleting,
    EmptyFile,
    InvalidRequest,
    NoText,
    NotFound,
    ProviderRefused,
    QuotaExceeded,
    RangeNotSatisfiable,
    TooLarge,
)
from ragsvc.http.auth import caller_of
from ragsvc.http.contract.bodies import Attributes, Body, Query, read_query
from ragsvc.http.contract.headers import (
    CONTENT_RANGE,
    ETAG,
    FILE_HEADERS,
    IF_NONE_MATCH,
    IF_RANGE,
    LOCATION,
    RANGE,
)
from ragsvc.http.contract.ids import CollectionId, ShownChunkId
from ragsvc.http.contract.operations import Media, operation
from ragsvc.http.contract.paging import LimitQuery, OrdinalCursor, Page, page_by
from ragsvc.http.contract.problems import problem_response
from ragsvc.http.contract.ranges import content_disposition, http_date, is_unchanged, wanted_range
from ragsvc.http.contract.rendering import json_response
from ragsvc.http.key_checks import KEY_CHECKS
from ragsvc.http.limits.sending import sending_blocks
from ragsvc.http.state import request_id_of, resources_of
from ragsvc.http.v1.documents import DocumentView, find_document, open_form, render_document
from ragsvc.tenants.collections import get_collection
from ragsvc.uploads.documents import receive_content

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.domain.chunks import StoredChunk, TextSlice
    from ragsvc.domain.documents import Document, File

routes = web.RouteTableDef()

MAX_TEXT_CHARS = 4_000_000
MAX_POSITION = 2**31 - 1
# A text is sent in slices of this many code points. Several are loaded at once, because the database has to skip what
# precedes them.
SLICE_CHARS = 64 * 1024
LOADED_SLICES = 4
LOADED_CHARS = LOADED_SLICES * SLICE_CHARS
FIND_FILE_ATTEMPTS = 3

Position = Annotated[int, Field(ge=0, le=MAX_POSITION)]


class ContentQuery(Query):
    """Whether to redirect to the object store, which then serves the file itself."""

    redirect: Annotated[bool, Field(description="Redirect (302) to a presigned URL.")] = False


class ContentForm(Body):
    """The form's fields other than `file`: the new version's attributes, and the collection, which cannot change."""

    collection_id: CollectionId | None = None
    attributes: Attributes | None = None


class TextQuery(Query):
    """Which part of which version; by default, all of the current version."""

    version: Annotated[int, Field(ge=1, le=MAX_POSITION)] | None = None
    start: Position = 0
    end: Annotated[Position | None, Field(description="One past the last code point; at most 4,000,000 are sent.")] = (
        None
    )


class ChunksQuery(LimitQuery):
    """Which page of the chunks, in document order."""

    cursor: OrdinalCursor | None = None


class TextView(TypedDict):
    """Code points `[start, end)` of a version's canonical text, whose total length is `length`."""

    version: int
    start: int
    end: int
    length: int
    text: str


class ChunkView(TypedDict):
    """A chunk; its text is the canonical text from `char_start` to `char_end`."""

    id: ShownChunkId
    ordinal: int
    text: str
    content_hash: str
    char_start: int
    char_end: int
    page_first: int | None
    page_last: int | None
    heading_path: list[str]
    token_count: int


def render_text(text: TextSlice) -> TextView:
    """Return a slice of a document's text."""
    return {
        "version": text.version,
        "start": text.start,
        "end": text.end,
        "length": text.length,
        "text": text.text,
    }


def render_chunk(chunk: StoredChunk) -> ChunkView:
    """Return a chunk."""
    return {
        "id": format_id("chunk", chunk.id),
        "ordinal": chunk.ordinal,
        "text": chunk.text,
        "content_hash": chunk.content_hash.hex(),
        "char_start": chunk.char_start,
        "char_end": chunk.char_end,
        "page_first": chunk.page_first,
        "page_last": chunk.page_last,
        "heading_path": list(chunk.heading_path),
        "token_count": chunk.token_count,
    }


@routes.get("/v1/documents/{document_id}/content")
@operation(
    "Download the source file",
    Scope.READ,
    query=ContentQuery,
    responses={
        200: Media("application/octet-stream", "The file."),
        206: Media("application/octet-stream", "The range of the file."),
        302: None,
        304: None,
    },
    response_headers={200: FILE_HEADERS, 206: (*FILE_HEADERS, CONTENT_RANGE), 302: (LOCATION,), 304: (ETAG,)},
    headers=(RANGE, IF_RANGE, IF_NONE_MATCH),
    problems=(RangeNotSatisfiable, ProviderRefused, DocumentDeleting),
)
async def get_document_content(request: web.Request) -> web.StreamResponse:
    """Serve the file, or a range of it, as an attachment."""
    query = read_query(request, ContentQuery)
    workspace = caller_of(request).workspace
    file = await _find_file(request)
    if query.redirect:
        url = await resources_of(request).storage.presign_get(workspace.bucket, file.object_key, filename=file.filename)
        return web.Response(status=302, headers={"Location": url, "Cache-Control": "no-store"})
    # A file's object never changes, so the file's id identifies the content as well as a digest does.
    etag = f'"{file.sha256.hex() if file.sha256 else file.id.hex}"'
    if is_unchanged(request.headers, etag=etag):
        return web.Response(status=304, headers={"ETag": etag, "Cache-Control": "private, no-cache"})
    return await _serve(request, file, bucket=workspace.bucket, etag=etag)


async def _find_readable(request: web.Request) -> Document:
    """Return the document named in the path, unless its deletion has begun.

    Raises:
        NotFound: the caller's workspace has no such document.
        DocumentDeleting: it is being deleted.
    """
    document = await find_document(request)
    if document.status is DocumentStatus.DELETING:
        raise DocumentDeleting
    return document


async def _find_file(request: web.Request) -> File:
    """Return the document's file; look again if it was replaced between the two queries."""
    for _ in range(FIND_FILE_ATTEMPTS):
        document = await _find_readable(request)
        async with resources_of(request).pool.acquire() as conn:
            file = await files.select_file(conn, document.workspace_id, document.file_id)
        if file is not None:
            return file
    raise NotFound


async def _serve(request: web.Request, file: File, *, bucket: str, etag: str) -> web.StreamResponse:
    try:
        part = wanted_range(request.headers, size_bytes=file.size_bytes, etag=etag, modified=file.created_at)
    except RangeNotSatisfiable as error:
        problem = problem_response(error, request_id=request_id_of(request))
        problem.headers["Content-Range"] = f"bytes */{file.size_bytes}"
        return problem
    first, last = part or (0, file.size_bytes - 1)
    response = web.StreamResponse(status=206 if part else 200, headers=_headers(file, etag=etag))
    response.content_length = last - first + 1
    if part:
        response.headers["Content-Range"] = f"bytes {first}-{last}/{file.size_bytes}"
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    async with (
        sending_blocks(request),
        resources_of(request).storage.open_object(bucket, file.object_key, byte_range=part) as body,
    ):
        await response.prepare(request)
        async for block in request.app[KEY_CHECKS].while_valid(body.blocks):
            await response.write(block)
    return response


def _headers(file: File, *, etag: str) -> dict[str, str]:
    return {
        "Content-Type": file.mime_type,
        "Content-Disposition": content_disposition(file.filename),
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Last-Modified": http_date(file.created_at),
        "Cache-Control": "private, no-cache",
    }


@routes.put("/v1/documents/{document_id}/content")
@operation(
    "Replace a document's source file",
    Scope.WRITE,
    form=ContentForm,
    responses={202: DocumentView},
    problems=(EmptyFile, TooLarge, QuotaExceeded, DocumentDeleting),
)
async def replace_document_content(request: web.Request) -> web.Response:
    """Accept a new file for the document; the current version remains active until the new one is ready."""
    before = await find_document(request)
    if before.status is DocumentStatus.DELETING:
        raise DocumentDeleting
    form = await open_form(request, ContentForm)

    def attributes() -> dict[str, object] | None:
        fields = form.fields()
        if fields.collection_id not in {None, before.collection_id}:
            raise InvalidRequest(fields={"collection_id": "a document cannot change its collection"})
        return fields.attributes

    try:
        attributes()
        document = await receive_content(
            resources_of(request),
            caller_of(request).workspace,
            before.id,
            request.app[KEY_CHECKS].while_valid(form.blocks()),
            filename=form.filename,
            mime_type=form.mime_type,
            late_attributes=attributes,
            announced_bytes=request.content_length,
        )
    except InvalidRequest:
        await _check_collection(request, form.fields().collection_id)
        raise
    return json_response(render_document(document, resources_of(request).space), status=202)


async def _check_collection(request: web.Request, collection_id: UUID | None) -> None:
    """Raise NotFound if the caller has no such collection; that takes precedence over other errors in the form."""
    if collection_id is not None:
        await get_collection(resources_of(request), caller_of(request).workspace.id, collection_id)


def _explain_no_text(document: Document) -> NoText:
    if document.status is DocumentStatus.FAILED and document.error is not None:
        return NoText(f"The document has no text: its ingestion failed ({document.error.code}).")
    return NoText()


@routes.get("/v1/documents/{document_id}/text")
@operation(
    "Read the canonical text that citations refer to",
    Scope.READ,
    query=TextQuery,
    responses={200: TextView},
    problems=(NoText, DocumentDeleting),
)
async def get_document_text(request: web.Request) -> web.StreamResponse:
    """Return a slice of a version's text; it reaches the end of the text if `end` equals `length`."""
    query = read_query(request, TextQuery)
    if query.end is not None and query.end < query.start:
        raise InvalidRequest(fields={"end": "must not be less than start"})
    document = await _find_readable(request)
    if document.version == 0:
        raise _explain_no_text(document)
    version = query.version or document.version
    end = min(query.start + MAX_TEXT_CHARS, MAX_POSITION if query.end is None else query.end)
    async with sending_blocks(request, blocks=LOADED_SLICES):
        text = await _load_slice(request, document, version=version, start=query.start, end=end)
        if text.start > text.length:
            raise InvalidRequest(fields={"start": f"is past the end of the text, which has {text.length} characters"})
        end = min(end, text.length)
        if text.end == end:
            return json_response(render_text(text))
        return await _stream_text(request, document, text, end=end)


async def _load_slice(request: web.Request, document: Document, *, version: int, start: int, end: int) -> TextSlice:
    """Return the first LOADED_CHARS code points of the text from `start` to `end`.

    Raises:
        NotFound: there is no such version, or no longer.
    """
    async with resources_of(request).pool.acquire() as conn:
        text = await canonical_text.select_text_slice(
            conn, document.workspace_id, document.id, version=version, start=start, end=min(end, start + LOADED_CHARS)
        )
    if text is None:
        raise NotFound
    return text


async def _stream_text(request: web.Request, document: Document, text: TextSlice, *, end: int) -> web.StreamResponse:
    """Send the text up to `end` as one JSON object, of which LOADED_CHARS at a time are in memory."""
    response = web.StreamResponse(headers={"Content-Type": "application/json; charset=utf-8"})
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    view = {**render_text(text), "end": end, "text": ""}
    await response.write(orjson.dumps(view).removesuffix(b'"}'))
    while text.start < end:
        await request.app[KEY_CHECKS].require_valid()
        for first in range(0, len(text.text), SLICE_CHARS):
            await response.write(orjson.dumps(text.text[first : first + SLICE_CHARS])[1:-1])
        if text.end == end:
            break
        text = await _load_slice(request, document, version=text.version, start=text.end, end=end)
    await response.write(b'"}')
    return response


@routes.get("/v1/documents/{document_id}/chunks")
@operation(
    "List the chunks in document order",
    Scope.READ,
    query=ChunksQuery,
    responses={200: Page[ChunkView]},
    problems=(DocumentDeleting,),
)
async def list_document_chunks(request: web.Request) -> web.Response:
    """Return one page of the current version's chunks; there are none before the first version is ready."""
    query = read_query(request, ChunksQuery)
    document = await _find_readable(request)
    async with resources_of(request).pool.acquire() as conn:
        found = await chunks.select_chunks(
            conn,
            document.workspace_id,
            document.id,
            after_ordinal=-1 if query.cursor is None else min(query.cursor, MAX_POSITION),
            limit=query.limit + 1,
        )
    return json_response(page_by(found, query.limit, render_chunk, position=lambda chunk: chunk.ordinal))

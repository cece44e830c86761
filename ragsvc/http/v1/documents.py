"""Documents: /v1/documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NotRequired

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from ragsvc.db import documents, jobs
from ragsvc.deletion.requests import request_document_deletion
from ragsvc.domain.documents import DocumentStatus, DocumentWarning, Stage, WarningCode
from ragsvc.domain.ids import format_id
from ragsvc.domain.workspaces import Scope
from ragsvc.errors.requests import (
    DocumentDeleting,
    DocumentExists,
    EmptyFile,
    IngestionActive,
    NoReplacement,
    NotFound,
    QuotaExceeded,
    TooLarge,
    UnsupportedMediaType,
)
from ragsvc.http.auth import caller_of
from ragsvc.http.contract.bodies import Attributes, Body, Query, read_body, read_query
from ragsvc.http.contract.ids import (
    CollectionId,
    FileId,
    ShownCollectionId,
    ShownDocumentId,
    ShownFileId,
    ShownTime,
    parse_id,
)
from ragsvc.http.contract.multipart import AnyBody, FormReader
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.rendering import FailureView, JsonObject, json_response, render_failure, render_time
from ragsvc.http.idempotency import bind_form, resource_id_of
from ragsvc.http.key_checks import KEY_CHECKS
from ragsvc.http.state import resources_of
from ragsvc.http.v1.collections import ChunkingBody, read_chunking
from ragsvc.http.v1.deletions import AcceptedDeletionView
from ragsvc.ingestion.reingestion import request_reingestion
from ragsvc.media_types.content_types import bare_type
from ragsvc.uploads.documents import attach_file, receive_document

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.domain.deletions import Deletion
    from ragsvc.domain.documents import Document, EmbeddingSpace
    from ragsvc.domain.workspaces import Workspace

routes = web.RouteTableDef()

# Excludes the paths of the bulk operations, which are not document ids.
DOCUMENT_PATH = "/v1/documents/{document_id:(?!bulk-(?:delete|reingest)$)[^/]+}"
# Allowance for what a form contains besides the file: its other fields and its boundaries.
FORM_OVERHEAD_BYTES = 1024 * 1024


class DocumentForm(Body):
    """The form's fields other than `file`; without `collection_id` the document goes into the default collection."""

    collection_id: CollectionId | None = None
    attributes: Attributes = Field(default_factory=dict)


class AttachBody(Body):
    """Which stored file to add to another collection, as a document."""

    file_id: FileId
    collection_id: CollectionId
    attributes: Attributes = Field(default_factory=dict)


class ReingestBody(Body):
    """The new version's chunking, which by default is the collection's, and its source file."""

    chunking: ChunkingBody | None = None
    discard_replacement: bool = Field(
        default=False,
        description="Discard the pending replacement file and ingest the current file again, to get back to `ready` "
        "after a failed replacement. The discarded file is deleted.",
    )


class DocumentChanges(Body):
    """The attributes that replace the document's current ones."""

    attributes: Attributes


class DeletionQuery(Query):
    """Whether to delete the source file too, if no other document uses it."""

    purge_file: bool = True


class DocumentWarningView(TypedDict):
    """A warning about the active version; `pages` are the affected physical pages."""

    code: WarningCode
    message: str
    pages: NotRequired[list[int]]


class EmbeddingSpaceView(TypedDict):
    """An embedding space: vectors of different ones cannot be compared."""

    model: str
    dimensions: int
    revision: int
    current: bool


class DocumentView(TypedDict):
    """A document."""

    id: ShownDocumentId
    object: Literal["document"]
    collection_id: ShownCollectionId
    file_id: ShownFileId
    filename: str
    mime_type: str
    size_bytes: int
    sha256: str | None
    status: DocumentStatus
    stage: Stage | None
    progress: float
    searchable: bool
    version: int
    chunk_count: int
    token_count: int
    attributes: JsonObject
    error: FailureView | None
    warnings: list[DocumentWarningView]
    embedding_space: EmbeddingSpaceView | None
    created_at: ShownTime
    updated_at: ShownTime


class DocumentDeletionView(AcceptedDeletionView):
    """An accepted deletion of a document."""

    document_id: ShownDocumentId
    status: Literal["deleting"]


def render_document(document: Document, current: EmbeddingSpace) -> DocumentView:
    """Return a document; searches use the `current` embedding space."""
    return {
        "id": format_id("doc", document.id),
        "object": "document",
        "collection_id": format_id("col", document.collection_id),
        "file_id": format_id("file", document.file_id),
        "filename": document.filename,
        "mime_type": bare_type(document.mime_type),
        "size_bytes": document.size_bytes,
        "sha256": document.sha256.hex() if document.sha256 else None,
        "status": document.status,
        "stage": document.stage,
        "progress": round(document.progress, 4),
        "searchable": document.active_build is not None and document.status is not DocumentStatus.DELETING,
        "version": document.version,
        "chunk_count": document.chunk_count,
        "token_count": document.token_count,
        "attributes": document.attributes,
        "error": render_failure(document.error),
        "warnings": [_render_warning(warning) for warning in document.warnings],
        "embedding_space": _render_space(document.space, current) if document.space else None,
        "created_at": render_time(document.created_at),
        "updated_at": render_time(document.updated_at),
    }


def _render_space(space: EmbeddingSpace, current: EmbeddingSpace) -> EmbeddingSpaceView:
    return {
        "model": space.model,
        "dimensions": space.dimensions,
        "revision": space.revision,
        "current": space.id == current.id,
    }


def _render_warning(warning: DocumentWarning) -> DocumentWarningView:
    view: DocumentWarningView = {"code": warning.code, "message": warning.message}
    if warning.pages:
        view["pages"] = list(warning.pages)
    return view


def render_document_deletion(deletion: Deletion, document_id: UUID) -> DocumentDeletionView:
    """Return the acknowledgement of a document's deletion, which can be that of its whole collection."""
    return {
        "deletion_id": format_id("del", deletion.id),
        "document_id": format_id("doc", document_id),
        "status": "deleting",
    }


async def _respond_again(request: web.Request, document_id: UUID) -> web.Response | None:
    async with resources_of(request).pool.acquire() as conn:
        document = await documents.select_document(conn, caller_of(request).workspace.id, document_id)
    return json_response(render_document(document, resources_of(request).space), status=202) if document else None


@routes.post("/v1/documents")
@operation(
    "Create a document from a new or a stored file",
    Scope.UPLOAD,
    Scope.WRITE,
    body=AttachBody,
    form=DocumentForm,
    responses={202: DocumentView},
    problems=(NotFound, EmptyFile, TooLarge, QuotaExceeded, DocumentExists),
    again=_respond_again,
)
async def create_document(request: web.Request) -> web.Response:
    """Accept a document; its `status` shows the ingestion's progress."""
    caller = caller_of(request)
    match request.content_type:
        case "multipart/form-data":
            document = await _receive(request, caller.workspace)
        case "application/json":
            body = await read_body(request, AttachBody)
            document = await attach_file(
                resources_of(request),
                caller.workspace,
                body.file_id,
                collection_id=body.collection_id,
                attributes=body.attributes,
                document_id=resource_id_of(request),
            )
        case _:
            raise UnsupportedMediaType("Send multipart/form-data with a file, or application/json with a file_id.")
    return json_response(render_document(document, resources_of(request).space), status=202)


async def open_form(request: web.Request, model: type[AnyBody]) -> FormReader[AnyBody]:
    """Return the request's form, read up to its file.

    Raises:
        TooLarge: the declared content length exceeds the limit.
        RequestError, InvalidRequest, UnsupportedMediaType: the form is malformed or its fields are invalid.
    """
    limit_bytes = resources_of(request).settings.api.max_document_bytes
    if (request.content_length or 0) > limit_bytes + FORM_OVERHEAD_BYTES:
        raise TooLarge(f"A file sent in one request can have at most {limit_bytes} bytes.")
    form = FormReader(request, model)
    await form.open_file()
    return form


async def _receive(request: web.Request, workspace: Workspace) -> Document:
    form = await open_form(request, DocumentForm)

    async def finish_details(sha256: bytes) -> tuple[UUID | None, dict[str, object]]:
        await bind_form(request, form.content_hash(sha256))
        fields = form.fields()
        return fields.collection_id, fields.attributes

    early = form.fields()
    return await receive_document(
        resources_of(request),
        workspace,
        request.app[KEY_CHECKS].while_valid(form.blocks()),
        filename=form.filename,
        mime_type=form.mime_type,
        collection_id=early.collection_id,
        attributes=early.attributes,
        late_details=finish_details,
        document_id=resource_id_of(request),
        announced_bytes=request.content_length,
    )


@routes.get(DOCUMENT_PATH)
@operation("Show a document", Scope.READ, responses={200: DocumentView})
async def get_document(request: web.Request) -> web.Response:
    """Return one document, including one that is being deleted."""
    return json_response(render_document(await find_document(request), resources_of(request).space))


@routes.patch(DOCUMENT_PATH)
@operation(
    "Replace a document's attributes",
    Scope.WRITE,
    body=DocumentChanges,
    responses={200: DocumentView},
    problems=(DocumentDeleting,),
)
async def update_document(request: web.Request) -> web.Response:
    """Replace the attributes; searches filter by the new ones immediately."""
    caller = caller_of(request)
    document_id = parse_id("doc", request.match_info["document_id"])
    body = await read_body(request, DocumentChanges)
    async with resources_of(request).pool.acquire() as conn:
        document = await documents.update_document_attributes(
            conn, caller.workspace.id, document_id, attributes=body.attributes
        )
    if document is None:
        raise NotFound
    if document.status is DocumentStatus.DELETING:
        raise DocumentDeleting
    return json_response(render_document(document, resources_of(request).space))


async def _respond_reingested(request: web.Request, job_id: UUID) -> web.Response | None:
    async with resources_of(request).pool.acquire() as conn:
        queued = await jobs.select_job(conn, job_id)
    return (
        json_response(render_document(await find_document(request), resources_of(request).space), status=202)
        if queued
        else None
    )


@routes.post("/v1/documents/{document_id}/reingest")
@operation(
    "Ingest a document again",
    Scope.WRITE,
    body=ReingestBody,
    body_optional=True,
    responses={202: DocumentView},
    problems=(IngestionActive, NoReplacement, DocumentDeleting),
    again=_respond_reingested,
)
async def reingest_document(request: web.Request) -> web.Response:
    """Queue a new version of the newest file; the current version remains active until the new one is ready.

    The newest file is the one that the last `PUT …/content` sent, even if its ingestion failed and the document still
    shows the previous file; `discard_replacement` discards it in favour of the file shown.
    """
    caller = caller_of(request)
    resources = resources_of(request)
    document_id = parse_id("doc", request.match_info["document_id"])
    body = await read_body(request, ReingestBody, optional=True)
    document = await request_reingestion(
        resources,
        caller.workspace.id,
        document_id,
        chunking=read_chunking(body.chunking, resources.settings),
        discard_replacement=body.discard_replacement,
        job_id=resource_id_of(request),
    )
    return json_response(render_document(document, resources_of(request).space), status=202)


@routes.delete(DOCUMENT_PATH)
@operation("Delete a document", Scope.WRITE, query=DeletionQuery, responses={202: DocumentDeletionView})
async def delete_document(request: web.Request) -> web.Response:
    """Accept the deletion; from now on no search finds the document."""
    caller = caller_of(request)
    document_id = parse_id("doc", request.match_info["document_id"])
    query = read_query(request, DeletionQuery)
    deletion = await request_document_deletion(
        resources_of(request), caller.workspace.id, document_id, purge_file=query.purge_file
    )
    return json_response(render_document_deletion(deletion, document_id), status=202)


async def find_document(request: web.Request) -> Document:
    """Return the document named in the path.

    Raises:
        NotFound: the caller's workspace has no such document.
    """
    caller = caller_of(request)
    document_id = parse_id("doc", request.match_info["document_id"])
    async with resources_of(request).pool.acquire() as conn:
        document = await documents.select_document(conn, caller.workspace.id, document_id)
    if document is None:
        raise NotFound
    return document

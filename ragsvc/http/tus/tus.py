"""Resumable uploads with the tus 1.0 protocol (https://tus.io/protocols/resumable-upload): /tus."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from email.utils import format_datetime
from typing import TYPE_CHECKING

from aiohttp import web

from ragsvc.domain.ids import format_id
from ragsvc.domain.uploads import UploadStatus
from ragsvc.domain.workspaces import Scope
from ragsvc.errors.requests import (
    ChecksumMismatch,
    EmptyFile,
    MethodNotAllowed,
    NotFound,
    OffsetConflict,
    QuotaExceeded,
    RequestError,
    TooLarge,
    UnsupportedMediaType,
    UnsupportedTusVersion,
    UploadGone,
    UploadLocked,
    UploadNotPending,
)
from ragsvc.http.auth import Access, caller_of
from ragsvc.http.contract.filenames import clean_filename, mime_type_of
from ragsvc.http.contract.headers import (
    DOCUMENT_ID,
    LOCATION,
    UPLOAD_EXPIRES,
    UPLOAD_LENGTH,
    UPLOAD_METADATA,
    UPLOAD_OFFSET,
)
from ragsvc.http.contract.ids import parse_id
from ragsvc.http.contract.operations import HeaderField, operation
from ragsvc.http.key_checks import KEY_CHECKS
from ragsvc.http.limits.traffic import TRAFFIC
from ragsvc.http.state import RESOURCES, resources_of
from ragsvc.http.tus import tus_headers
from ragsvc.http.tus.arrivals import arrived_blocks
from ragsvc.uploads.sessions import abort_session, open_session
from ragsvc.uploads.tus import offsets
from ragsvc.uploads.tus.appends import append_bytes

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.domain.uploads import Upload
    from ragsvc.uploads.tus.appends import Checksum
    from ragsvc.uploads.tus.offsets import Progress

routes = web.RouteTableDef()

METHOD_OVERRIDE = "X-HTTP-Method-Override"
OVERRIDE = HeaderField(
    METHOD_OVERRIDE,
    "The method to use instead of the request's own, for clients that can only send POST.",
    {"enum": ["HEAD", "PATCH", "DELETE"]},
    required=True,
)
PROGRESS = (UPLOAD_OFFSET, UPLOAD_EXPIRES, DOCUMENT_ID)
APPENDING = (tus_headers.RESUMABLE, tus_headers.OFFSET, tus_headers.CHECKSUM)
CAPABILITIES = tuple(
    HeaderField(name, description, required=True)
    for name, description in (
        ("Tus-Version", "Supported versions of tus."),
        ("Tus-Extension", "Supported extensions."),
        ("Tus-Max-Size", "Maximum size of a file in bytes."),
        ("Tus-Checksum-Algorithm", "Algorithms supported in Upload-Checksum."),
    )
)
FINDING_PROBLEMS = (RequestError, UploadGone, UnsupportedTusVersion)
ENDING_PROBLEMS = (*FINDING_PROBLEMS, UploadLocked, UploadNotPending)
APPEND_PROBLEMS = (*ENDING_PROBLEMS, OffsetConflict, TooLarge, UnsupportedMediaType, ChecksumMismatch)


async def finish_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add the headers common to all responses under /tus, including problems; runs just before they are sent."""
    if request.path == "/tus" or request.path.startswith("/tus/"):
        response.headers["Tus-Resumable"] = tus_headers.VERSION
        response.headers["Cache-Control"] = "no-store"
        if response.status == web.HTTPPreconditionFailed.status_code:
            response.headers["Tus-Version"] = tus_headers.VERSION


@routes.options("/tus")
@operation(
    "Get the tus capabilities of the server",
    Access.PUBLIC,
    responses={204: None},
    response_headers={204: CAPABILITIES},
)
async def get_tus_options(request: web.Request) -> web.Response:
    """Return the supported version and extensions, and the maximum file size."""
    return _options(request)


@routes.post("/tus")
@operation(
    "Create a tus upload",
    Scope.UPLOAD,
    Scope.WRITE,
    raw_body=tus_headers.BODY_TYPE,
    body_optional=True,
    headers=(tus_headers.RESUMABLE, tus_headers.LENGTH, tus_headers.DESCRIPTION, tus_headers.CHECKSUM),
    responses={201: None},
    response_headers={201: (LOCATION, *PROGRESS)},
    problems=(*APPEND_PROBLEMS, NotFound, MethodNotAllowed, EmptyFile, QuotaExceeded),
)
async def create_tus_upload(request: web.Request) -> web.Response:
    """Create an upload of Upload-Length bytes, and store its first bytes if the request has a body."""
    tus_headers.require_version(request)
    if request.headers.get(METHOD_OVERRIDE, "POST") != "POST":
        raise web.HTTPMethodNotAllowed(request.method, ["OPTIONS", "POST"])
    if "Upload-Concat" in request.headers:
        raise RequestError("The tus extension concatenation is not supported.")
    has_body = request.can_read_body
    if has_body:
        _require_body_type(request)
    checksum = tus_headers.read_checksum(request)
    upload = await _open(request)
    headers = {"Location": f"/tus/{format_id('upl', upload.id)}"}
    if has_body:
        try:
            progress = await _append(request, upload.id, offset=0, checksum=checksum)
        except Exception:
            # The client never learns the location of the upload, so it could not resume it.
            with suppress(Exception):
                await asyncio.shield(abort_session(resources_of(request), upload.workspace_id, upload.id))
            raise
        return web.Response(status=201, headers={**headers, **_progress_headers(progress)})
    return web.Response(status=201, headers={**headers, **_progress_headers(offsets.Progress(upload, 0))})


@routes.head("/tus/{upload_id}")
@operation(
    "Get the offset of a tus upload",
    Scope.UPLOAD,
    Scope.WRITE,
    headers=(tus_headers.RESUMABLE,),
    responses={200: None},
    response_headers={200: (UPLOAD_LENGTH, UPLOAD_METADATA, *PROGRESS)},
    problems=ENDING_PROBLEMS,
)
async def get_tus_offset(request: web.Request) -> web.Response:
    """Return the offset at which the upload continues."""
    return await _dispatch(request, "HEAD")


@routes.patch("/tus/{upload_id}")
@operation(
    "Append to a tus upload",
    Scope.UPLOAD,
    Scope.WRITE,
    raw_body=tus_headers.BODY_TYPE,
    headers=APPENDING,
    responses={204: None},
    response_headers={204: PROGRESS},
    problems=APPEND_PROBLEMS,
)
async def append_to_tus_upload(request: web.Request) -> web.Response:
    """Append bytes at Upload-Offset; the last byte creates the document, whose id is returned."""
    return await _dispatch(request, "PATCH")


@routes.delete("/tus/{upload_id}")
@operation(
    "Terminate a tus upload",
    Scope.UPLOAD,
    Scope.WRITE,
    headers=(tus_headers.RESUMABLE,),
    responses={204: None},
    problems=ENDING_PROBLEMS,
)
async def terminate_tus_upload(request: web.Request) -> web.Response:
    """Abort the upload and delete the bytes received."""
    return await _dispatch(request, "DELETE")


@routes.post("/tus/{upload_id}")
@operation(
    "Send another method as POST (X-HTTP-Method-Override)",
    Scope.UPLOAD,
    Scope.WRITE,
    raw_body=tus_headers.BODY_TYPE,
    body_optional=True,
    headers=(OVERRIDE, tus_headers.RESUMABLE, replace(tus_headers.OFFSET, required=False), tus_headers.CHECKSUM),
    responses={200: None, 204: None},
    response_headers={200: PROGRESS},
    problems=(*APPEND_PROBLEMS, MethodNotAllowed),
)
async def override_tus_method(request: web.Request) -> web.Response:
    """Serve clients behind proxies that block PATCH and DELETE."""
    return await _dispatch(request, "POST")


async def _dispatch(request: web.Request, method: str) -> web.Response:
    tus_headers.require_version(request)
    # tus 1.0: this header takes precedence over the request's method.
    match request.headers.get(METHOD_OVERRIDE, method).upper():
        case "HEAD":
            return await _head(request)
        case "PATCH":
            return await _patch(request)
        case "DELETE":
            return await _delete(request)
        case "OPTIONS":
            return _options(request)
    raise web.HTTPMethodNotAllowed(request.method, ["DELETE", "HEAD", "OPTIONS", "PATCH"])


def _options(request: web.Request) -> web.Response:
    return web.Response(
        status=204,
        headers={
            "Tus-Version": tus_headers.VERSION,
            "Tus-Extension": tus_headers.EXTENSIONS,
            "Tus-Checksum-Algorithm": ",".join(tus_headers.CHECKSUMS),
            "Tus-Max-Size": str(request.app[RESOURCES].settings.api.max_upload_bytes),
        },
    )


async def _open(request: web.Request) -> Upload:
    if "Upload-Length" not in request.headers and "Upload-Defer-Length" in request.headers:
        raise RequestError("The tus extension creation-defer-length is not supported: send Upload-Length.")
    size_bytes = tus_headers.read_number(request, "Upload-Length")
    if size_bytes == 0:
        raise EmptyFile
    raw = request.headers.get(tus_headers.METADATA, "")
    metadata = tus_headers.read_metadata(raw)
    filename = clean_filename(metadata.filename)
    return await open_session(
        resources_of(request),
        caller_of(request).workspace,
        filename=filename,
        size_bytes=size_bytes,
        mime_type=mime_type_of(metadata.filetype, filename),
        sha256=None,
        collection_id=metadata.collection_id,
        attributes=metadata.attributes,
        chunking=None,
        tus_metadata=raw,
    )


async def _head(request: web.Request) -> web.Response:
    workspace_id = caller_of(request).workspace.id
    progress = await offsets.settle_progress(resources_of(request), workspace_id, _upload_id(request))
    headers = {"Upload-Length": str(progress.upload.size_bytes), **_progress_headers(progress)}
    if progress.upload.tus_metadata:
        headers[tus_headers.METADATA] = progress.upload.tus_metadata
    return web.Response(status=200, headers=headers)


async def _patch(request: web.Request) -> web.Response:
    _require_body_type(request)
    offset = tus_headers.read_number(request, "Upload-Offset")
    checksum = tus_headers.read_checksum(request)
    progress = await _append(request, _upload_id(request), offset=offset, checksum=checksum)
    return web.Response(status=204, headers=_progress_headers(progress))


async def _delete(request: web.Request) -> web.Response:
    resources, workspace_id, upload_id = resources_of(request), caller_of(request).workspace.id, _upload_id(request)
    await offsets.load_upload(resources, workspace_id, upload_id)
    await abort_session(resources, workspace_id, upload_id)
    return web.Response(status=204)


async def _append(request: web.Request, upload_id: UUID, *, offset: int, checksum: Checksum | None) -> Progress:
    traffic = request.app[TRAFFIC]
    return await append_bytes(
        resources_of(request),
        caller_of(request).workspace.id,
        upload_id,
        offset=offset,
        size_bytes=request.content_length,
        checksum=checksum,
        source=request.app[KEY_CHECKS].while_valid(arrived_blocks(request)),
        # A draining process stores the bytes received; the client continues at another process.
        should_leave=lambda: traffic.is_draining,
    )


def _require_body_type(request: web.Request) -> None:
    if request.content_type != tus_headers.BODY_TYPE:
        raise UnsupportedMediaType(f"Send the bytes with Content-Type: {tus_headers.BODY_TYPE}.")


def _progress_headers(progress: Progress) -> dict[str, str]:
    upload = progress.upload
    headers = {"Upload-Offset": str(progress.offset)}
    if upload.document_id is not None:
        headers[DOCUMENT_ID.name] = format_id("doc", upload.document_id)
    if upload.status is UploadStatus.PENDING:
        headers["Upload-Expires"] = format_datetime(upload.expires_at, usegmt=True)
    return headers


def _upload_id(request: web.Request) -> UUID:
    return parse_id("upl", request.match_info["upload_id"])

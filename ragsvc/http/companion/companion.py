"""Implements the Companion API that @uppy/aws-s3 uploads through: /companion/{upload_token}/s3.

Parts are sent directly to the object store. Uppy sends no Authorization header, so the upload token is in the path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from aiohttp import web
from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from ragsvc.domain.ids import format_id, new_id
from ragsvc.domain.uploads import UploadStatus
from ragsvc.errors.requests import (
    EmptyFile,
    NotFound,
    PartNumberOutOfRange,
    PartSizeMismatch,
    PartsMissing,
    QuotaExceeded,
    RequestError,
    TooLarge,
    UploadNotPending,
)
from ragsvc.http.auth import Access, uploader_of
from ragsvc.http.contract.bodies import Body, Query, read_body, read_query
from ragsvc.http.contract.filenames import clean_filename, mime_type_of
from ragsvc.http.contract.headers import ETAG, LOCATION
from ragsvc.http.contract.ids import ShownDocumentId, ShownUploadId, parse_id
from ragsvc.http.contract.multipart import FormReader
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.rendering import json_response
from ragsvc.http.key_checks import KEY_CHECKS
from ragsvc.http.state import public_url_of, resources_of
from ragsvc.http.v1.documents import FORM_OVERHEAD_BYTES
from ragsvc.http.v1.uploads import read_blocks, read_part_number
from ragsvc.settings.settings import MOST_PARTS
from ragsvc.storage.clients import PRESIGN_EXPIRES_S
from ragsvc.uploads import completion, sessions, token_sessions
from ragsvc.uploads.documents import receive_document

if TYPE_CHECKING:
    from ragsvc.domain.documents import Document
    from ragsvc.domain.uploads import Upload

routes = web.RouteTableDef()

# Stands in for the ETags of a completed upload's parts, because the store no longer lists them. Uppy only requires
# that there is a value.
JOINED_ETAG = "joined"
# Fits into a request line even if every character is percent-encoded.
MAX_QUERY_CHARS = 512
MAX_TYPE_CHARS = 127
Filename = Annotated[str, Field(min_length=1, max_length=1024)]


class CompanionUploadBody(Body):
    """A file that Uppy wants to upload; if its metadata has a `size`, quota is reserved for it immediately."""

    # Some versions of Uppy send additional fields.
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    filename: Filename
    type: str | None = None
    metadata: dict[str, object] | None = None

    @property
    def size_bytes(self) -> int | None:
        """The file's size, if the page declares a valid one."""
        size = (self.metadata or {}).get("size")
        text = str(size) if isinstance(size, (int, str)) and not isinstance(size, bool) else ""
        return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 and int(text) else None  # noqa: PLR2004 - 18 digits always fit into a bigint


class CompanionPart(Body):
    """A part that Uppy has sent."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    PartNumber: Annotated[int, Field(ge=1, le=MOST_PARTS)]


class CompanionCompleteBody(Body):
    """All parts of the file."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    parts: Annotated[list[CompanionPart], Field(min_length=1, max_length=MOST_PARTS)]


class CompanionQuery(Query):
    """The object key that Uppy received when the upload was opened."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    key: str


class CompanionParamsQuery(Query):
    """A small file that Uppy wants to upload in one request."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    filename: Annotated[str, Field(min_length=1, max_length=MAX_QUERY_CHARS)]
    type: Annotated[str, Field(max_length=MAX_TYPE_CHARS)] = ""


class CompanionForm(Body):
    """The form fields that `GET …/s3/params` returned."""

    key: str
    filename: Filename
    type: str = ""


class CompanionUploadView(TypedDict):
    """An upload session in Uppy's format."""

    key: str
    uploadId: ShownUploadId


class CompanionPartView(TypedDict):
    """A part in Uppy's format."""

    PartNumber: int
    Size: int
    ETag: str


class CompanionPartUrlView(TypedDict):
    """A URL that accepts one part by PUT."""

    url: str
    expires: int


class CompanionFormView(TypedDict):
    """A form for a small file; the file itself is sent after these fields, in the field `file`."""

    method: Literal["POST"]
    url: str
    fields: dict[str, str]
    expires: int


class CompanionCompletedView(TypedDict):
    """A completed upload; `location` is the document's URL."""

    location: str
    bucket: str
    key: str
    document_id: ShownDocumentId


@routes.post("/companion/{upload_token}/s3/multipart")
@operation(
    "Open an upload for Uppy",
    Access.UPLOAD_TOKEN,
    body=CompanionUploadBody,
    responses={200: CompanionUploadView},
    problems=(NotFound, TooLarge, QuotaExceeded),
)
async def open_companion_upload(request: web.Request) -> web.Response:
    """Open an upload session. If the size is not declared, the sizes of the parts are determined at completion."""
    uploader = uploader_of(request)
    body = await read_body(request, CompanionUploadBody)
    filename = clean_filename(body.filename)
    upload = await token_sessions.open_token_session(
        resources_of(request),
        uploader.workspace,
        uploader.token,
        filename=filename,
        mime_type=mime_type_of(body.type or "", filename),
        size_bytes=body.size_bytes,
    )
    return json_response({"key": upload.object_key, "uploadId": format_id("upl", upload.id)})


@routes.get("/companion/{upload_token}/s3/multipart/{session}")
@operation(
    "List an upload's parts for Uppy",
    Access.UPLOAD_TOKEN,
    query=CompanionQuery,
    responses={200: list[CompanionPartView]},
)
async def list_companion_parts(request: web.Request) -> web.Response:
    """Return the parts that were received: all of them if the upload is already complete."""
    upload = await _load(request)
    if upload.status in {UploadStatus.COMPLETING, UploadStatus.COMPLETED}:
        numbers = range(1, upload.part_count + 1)
        return json_response(
            [{"PartNumber": number, "Size": upload.size_of_part(number), "ETag": JOINED_ETAG} for number in numbers]
        )
    upload, _s3_upload_id = sessions.require_pending(upload)
    state = await sessions.load_state(resources_of(request), upload.workspace_id, upload.id)
    return json_response(
        [{"PartNumber": part.number, "Size": part.size_bytes, "ETag": part.etag} for part in state.received]
    )


@routes.get("/companion/{upload_token}/s3/multipart/{session}/{part_number:(?!complete$)[^/]+}")
@operation(
    "Presign a part for Uppy",
    Access.UPLOAD_TOKEN,
    query=CompanionQuery,
    responses={200: CompanionPartUrlView},
    problems=(UploadNotPending, PartNumberOutOfRange, TooLarge),
)
async def presign_companion_part(request: web.Request) -> web.Response:
    """Return a URL to which the part is sent with PUT.

    It is the object store's if the file's size was declared, and the next operation's otherwise.
    """
    resources = resources_of(request)
    url = await token_sessions.presign_token_part(resources, await _load(request), read_part_number(request))
    return json_response({"url": url or f"{public_url_of(request)}{request.rel_url}", "expires": PRESIGN_EXPIRES_S})


@routes.put("/companion/{upload_token}/s3/multipart/{session}/{part_number:(?!complete$)[^/]+}")
@operation(
    "Send a part for Uppy",
    Access.UPLOAD_TOKEN,
    raw_body="application/octet-stream",
    query=CompanionQuery,
    responses={200: None},
    response_headers={200: (ETAG,)},
    problems=(UploadNotPending, PartNumberOutOfRange, PartSizeMismatch, TooLarge, QuotaExceeded),
)
async def put_companion_part(request: web.Request) -> web.Response:
    """Stream a part of a file whose size was not declared into the object store."""
    if request.content_length is None:
        raise RequestError("Send the part with Content-Length.")
    part = await token_sessions.receive_token_part(
        resources_of(request),
        uploader_of(request).workspace,
        await _load(request),
        number=read_part_number(request),
        size_bytes=request.content_length,
        source=request.app[KEY_CHECKS].while_valid(read_blocks(request)),
    )
    return web.Response(status=200, headers={"ETag": f'"{part.etag}"'})


@routes.post("/companion/{upload_token}/s3/multipart/{session}/complete")
@operation(
    "Complete an upload for Uppy",
    Access.UPLOAD_TOKEN,
    body=CompanionCompleteBody,
    query=CompanionQuery,
    responses={200: CompanionCompletedView},
    problems=(UploadNotPending, PartsMissing, PartSizeMismatch, TooLarge, QuotaExceeded),
)
async def complete_companion_upload(request: web.Request) -> web.Response:
    """Create a document from the parts; Uppy shows its URL as the URL of the upload."""
    resources, upload = resources_of(request), await _load(request)
    body = await read_body(request, CompanionCompleteBody)
    await token_sessions.learn_size(resources, upload, part_count=max(part.PartNumber for part in body.parts))
    document = await completion.complete_session(resources, upload.workspace_id, upload.id)
    return json_response(
        {
            "location": _location(request, document),
            "bucket": upload.bucket,
            "key": upload.object_key,
            "document_id": format_id("doc", document.id),
        }
    )


@routes.delete("/companion/{upload_token}/s3/multipart/{session}")
@operation(
    "Abort an upload for Uppy",
    Access.UPLOAD_TOKEN,
    query=CompanionQuery,
    responses={200: dict[str, str]},
    problems=(UploadNotPending,),
)
async def abort_companion_upload(request: web.Request) -> web.Response:
    """Abort the session and delete its parts."""
    upload = await _load(request)
    await sessions.abort_session(resources_of(request), upload.workspace_id, upload.id)
    return json_response({})


@routes.get("/companion/{upload_token}/s3/params")
@operation(
    "Get the upload form of a small file for Uppy",
    Access.UPLOAD_TOKEN,
    query=CompanionParamsQuery,
    responses={200: CompanionFormView},
)
async def get_companion_params(request: web.Request) -> web.Response:
    """Return a form that is posted to this server, because the object store would not notify us of the upload."""
    query = read_query(request, CompanionParamsQuery)
    url = f"{public_url_of(request)}/companion/{request.match_info['upload_token']}/s3/form"
    fields = {"key": new_id().hex, "filename": query.filename, "type": query.type}
    return json_response({"method": "POST", "url": url, "fields": fields, "expires": PRESIGN_EXPIRES_S})


@routes.post("/companion/{upload_token}/s3/form")
@operation(
    "Upload a small file with Uppy",
    Access.UPLOAD_TOKEN,
    form=CompanionForm,
    responses={201: CompanionCompletedView},
    response_headers={201: (LOCATION, ETAG)},
    problems=(NotFound, EmptyFile, TooLarge, QuotaExceeded),
)
async def receive_companion_form(request: web.Request) -> web.Response:
    """Receive a file in one request, like POST /v1/documents."""
    uploader = uploader_of(request)
    limit_bytes = uploader.token.max_bytes
    if (request.content_length or 0) > limit_bytes + FORM_OVERHEAD_BYTES:
        raise TooLarge(f"A file uploaded with this token can have at most {limit_bytes} bytes.")
    form = FormReader(request, CompanionForm)
    await form.open_file()
    fields = form.fields()
    filename = clean_filename(fields.filename)
    document = await receive_document(
        resources_of(request),
        uploader.workspace,
        request.app[KEY_CHECKS].while_valid(form.blocks()),
        filename=filename,
        mime_type=mime_type_of(fields.type, filename),
        collection_id=uploader.token.collection_id,
        attributes={},
        limit_bytes=limit_bytes,
        announced_bytes=request.content_length,
    )
    location = _location(request, document)
    view = {
        "location": location,
        "bucket": uploader.workspace.bucket,
        "key": fields.key,
        "document_id": format_id("doc", document.id),
    }
    etag = f'"{(document.sha256 or b"").hex()}"'
    return json_response(view, status=201, headers={"Location": location, "ETag": etag})


async def _load(request: web.Request) -> Upload:
    key = read_query(request, CompanionQuery).key
    upload_id = parse_id("upl", request.match_info["session"])
    return await token_sessions.load_token_session(
        resources_of(request), uploader_of(request).token, upload_id, object_key=key
    )


def _location(request: web.Request, document: Document) -> str:
    return f"{public_url_of(request)}/v1/documents/{format_id('doc', document.id)}"

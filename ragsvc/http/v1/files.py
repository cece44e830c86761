"""Stored files: /v1/files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from aiohttp import web
from typing_extensions import TypedDict

from ragsvc.db import files
from ragsvc.deletion.files import delete_unused_file
from ragsvc.domain.ids import format_id
from ragsvc.domain.workspaces import Scope
from ragsvc.errors.requests import FileInUse, NotFound, ProviderRefused
from ragsvc.http.auth import caller_of
from ragsvc.http.contract.bodies import read_query
from ragsvc.http.contract.ids import ShownFileId, ShownTime, parse_id
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.paging import Page, PageQuery, page_by_id
from ragsvc.http.contract.rendering import json_response, render_time
from ragsvc.http.state import resources_of
from ragsvc.media_types.content_types import bare_type

if TYPE_CHECKING:
    from ragsvc.domain.documents import File

routes = web.RouteTableDef()


class FileView(TypedDict):
    """A stored file."""

    id: ShownFileId
    object: Literal["file"]
    filename: str
    mime_type: str
    size_bytes: int
    sha256: str | None
    created_at: ShownTime


def render_file(file: File) -> FileView:
    """Return a file."""
    return {
        "id": format_id("file", file.id),
        "object": "file",
        "filename": file.filename,
        "mime_type": bare_type(file.mime_type),
        "size_bytes": file.size_bytes,
        "sha256": file.sha256.hex() if file.sha256 else None,
        "created_at": render_time(file.created_at),
    }


@routes.get("/v1/files")
@operation("List the files", Scope.READ, query=PageQuery, responses={200: Page[FileView]})
async def list_files(request: web.Request) -> web.Response:
    """Return one page of the files."""
    caller = caller_of(request)
    query = read_query(request, PageQuery)
    async with resources_of(request).pool.acquire() as conn:
        found = await files.select_files(conn, caller.workspace.id, before=query.cursor, limit=query.limit + 1)
    return json_response(page_by_id(found, query.limit, render_file))


@routes.get("/v1/files/{file_id}")
@operation("Show a file", Scope.READ, responses={200: FileView})
async def get_file(request: web.Request) -> web.Response:
    """Return one file."""
    caller = caller_of(request)
    file_id = parse_id("file", request.match_info["file_id"])
    async with resources_of(request).pool.acquire() as conn:
        file = await files.select_file(conn, caller.workspace.id, file_id)
    if file is None:
        raise NotFound
    return json_response(render_file(file))


@routes.delete("/v1/files/{file_id}")
@operation(
    "Delete a file that no document uses", Scope.WRITE, responses={204: None}, problems=(FileInUse, ProviderRefused)
)
async def delete_file(request: web.Request) -> web.Response:
    """Delete the file and its stored object."""
    caller = caller_of(request)
    file_id = parse_id("file", request.match_info["file_id"])
    await delete_unused_file(resources_of(request), caller.workspace, file_id)
    return web.Response(status=204)

"""Stored files: /v1/files."""

from __future__ import annotations

from aiohttp import web

from ragsvc.db import files
from ragsvc.deletion.files import delete_unused_file
from ragsvc.domain.workspaces import Scope
from ragsvc.errors import FileInUse, NotFound, ProviderRefused
from ragsvc.http.auth import caller_of
from ragsvc.http.contract.bodies import read_query
from ragsvc.http.contract.ids import parse_id
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.paging import Page, PageQuery, page_by_id
from ragsvc.http.rendering import json_response, render_file
from ragsvc.http.state import resources_of
from ragsvc.http.views import FileView

routes = web.RouteTableDef()


@routes.get("/v1/files")
@operation("List the files", Scope.READ, query=PageQuery, responses={200: Page[FileView]})
async def list_files(request: web.Request) -> web.Response:
    """Answer one page of the files."""
    caller = caller_of(request)
    query = read_query(request, PageQuery)
    async with resources_of(request).pool.acquire() as conn:
        found = await files.select_files(conn, caller.workspace.id, before=query.cursor, limit=query.limit + 1)
    return json_response(page_by_id(found, query.limit, render_file))


@routes.get("/v1/files/{file_id}")
@operation("Show a file", Scope.READ, responses={200: FileView})
async def get_file(request: web.Request) -> web.Response:
    """Answer one file."""
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
    """Remove the stored object and forget the file."""
    caller = caller_of(request)
    file_id = parse_id("file", request.match_info["file_id"])
    await delete_unused_file(resources_of(request), caller.workspace, file_id)
    return web.Response(status=204)

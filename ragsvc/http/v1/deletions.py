"""What was deleted, and the proof: /v1/deletions."""

from __future__ import annotations

from aiohttp import web

from ragsvc.db import deletion_receipts
from ragsvc.domain.workspaces import Scope
from ragsvc.errors import NotFound
from ragsvc.http.auth import Access, caller_of, is_admin
from ragsvc.http.contract.bodies import read_query
from ragsvc.http.contract.ids import parse_id
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.paging import Page, PageQuery, page_by_id
from ragsvc.http.rendering import json_response, render_deletion
from ragsvc.http.state import resources_of
from ragsvc.http.views import DeletionView

routes = web.RouteTableDef()


@routes.get("/v1/deletions")
@operation("List the deletions", Scope.READ, query=PageQuery, responses={200: Page[DeletionView]})
async def list_deletions(request: web.Request) -> web.Response:
    """Answer one page of the deletions."""
    caller = caller_of(request)
    query = read_query(request, PageQuery)
    async with resources_of(request).pool.acquire() as conn:
        found = await deletion_receipts.select_deletions(
            conn, caller.workspace.id, before=query.cursor, limit=query.limit + 1
        )
    return json_response(page_by_id(found, query.limit, render_deletion))


@routes.get("/v1/deletions/{deletion_id}")
@operation("Show a deletion and its receipt", Scope.READ, Access.ADMIN, responses={200: DeletionView})
async def get_deletion(request: web.Request) -> web.Response:
    """Answer one deletion; its receipt outlives what was deleted, and a workspace's is the operator's to read."""
    deletion_id = parse_id("del", request.match_info["deletion_id"])
    async with resources_of(request).pool.acquire() as conn:
        if is_admin(request):
            deletion = await deletion_receipts.select_any_deletion(conn, deletion_id)
        else:
            deletion = await deletion_receipts.select_deletion(conn, caller_of(request).workspace.id, deletion_id)
    if deletion is None:
        raise NotFound
    return json_response(render_deletion(deletion))

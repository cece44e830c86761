"""The caller's own workspace: /v1/workspace."""

from __future__ import annotations

from aiohttp import web

from ragsvc.db import documents
from ragsvc.domain.workspaces import Scope
from ragsvc.http.auth import caller_of
from ragsvc.http.contract.operations import operation
from ragsvc.http.rendering import json_response, render_own_workspace
from ragsvc.http.state import resources_of
from ragsvc.http.views import OwnWorkspaceView

routes = web.RouteTableDef()


@routes.get("/v1/workspace")
@operation("Show the workspace of this key", Scope.READ, responses={200: OwnWorkspaceView})
async def get_own_workspace(request: web.Request) -> web.Response:
    """Answer the caller's workspace and what it holds."""
    caller = caller_of(request)
    async with resources_of(request).pool.acquire() as conn:
        usage = await documents.select_usage(conn, caller.workspace.id)
    return json_response(render_own_workspace(caller.workspace, usage))

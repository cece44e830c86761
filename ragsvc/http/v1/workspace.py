"""The caller's own workspace: /v1/workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from typing_extensions import TypedDict

from ragsvc.db import documents
from ragsvc.domain.ids import format_id
from ragsvc.domain.workspaces import Scope
from ragsvc.http.auth import caller_of
from ragsvc.http.contract.ids import ShownWorkspaceId
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.rendering import json_response
from ragsvc.http.state import resources_of

if TYPE_CHECKING:
    from ragsvc.domain.workspaces import Usage, Workspace

routes = web.RouteTableDef()


class UsageView(TypedDict):
    """How much a workspace stores."""

    documents: int
    chunks: int
    storage_bytes: int


class OwnWorkspaceView(TypedDict):
    """A workspace as its own keys see it."""

    id: ShownWorkspaceId
    name: str
    usage: UsageView
    quota_bytes: int | None


def render_own_workspace(workspace: Workspace, usage: Usage) -> OwnWorkspaceView:
    """Return a workspace as its own keys see it."""
    return {
        "id": format_id("ws", workspace.id),
        "name": workspace.name,
        "usage": {"documents": usage.documents, "chunks": usage.chunks, "storage_bytes": usage.storage_bytes},
        "quota_bytes": workspace.quota_bytes,
    }


@routes.get("/v1/workspace")
@operation("Show the workspace of this key", Scope.READ, responses={200: OwnWorkspaceView})
async def get_own_workspace(request: web.Request) -> web.Response:
    """Return the caller's workspace and its usage."""
    caller = caller_of(request)
    async with resources_of(request).pool.acquire() as conn:
        usage = await documents.select_usage(conn, caller.workspace.id)
    return json_response(render_own_workspace(caller.workspace, usage))

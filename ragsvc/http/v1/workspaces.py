"""Tenants, managed by the operator: /v1/workspaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from typing_extensions import TypedDict

from ragsvc.deletion.requests import request_workspace_deletion
from ragsvc.domain.ids import format_id
from ragsvc.errors.requests import ProviderRefused
from ragsvc.http.auth import Access
from ragsvc.http.contract.bodies import Body, Name, read_body, read_query
from ragsvc.http.contract.ids import ShownTime, ShownWorkspaceId, parse_id
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.paging import Page, PageQuery, page_by_id
from ragsvc.http.contract.rendering import json_response, render_time
from ragsvc.http.idempotency import resource_id_of
from ragsvc.http.state import resources_of
from ragsvc.http.v1.deletions import AcceptedDeletionView, render_accepted_deletion
from ragsvc.tenants import workspaces

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.domain.workspaces import Workspace

routes = web.RouteTableDef()


class WorkspaceBody(Body):
    """A new workspace."""

    name: Name


class WorkspaceView(TypedDict):
    """A workspace as the operator sees it."""

    id: ShownWorkspaceId
    name: str
    bucket: str
    created_at: ShownTime


def render_workspace(workspace: Workspace) -> WorkspaceView:
    """Return a workspace as the operator sees it."""
    return {
        "id": format_id("ws", workspace.id),
        "name": workspace.name,
        "bucket": workspace.bucket,
        "created_at": render_time(workspace.created_at),
    }


async def _respond_again(request: web.Request, workspace_id: UUID) -> web.Response | None:
    workspace = await workspaces.find_workspace(resources_of(request), workspace_id)
    return json_response(render_workspace(workspace), status=201) if workspace else None


@routes.post("/v1/workspaces")
@operation(
    "Create a workspace",
    Access.ADMIN,
    body=WorkspaceBody,
    responses={201: WorkspaceView},
    problems=(ProviderRefused,),
    again=_respond_again,
)
async def create_workspace(request: web.Request) -> web.Response:
    """Create a workspace with its bucket and default collection."""
    body = await read_body(request, WorkspaceBody)
    workspace = await workspaces.create_workspace(resources_of(request), resource_id_of(request), name=body.name)
    return json_response(render_workspace(workspace), status=201)


@routes.get("/v1/workspaces")
@operation("List the workspaces", Access.ADMIN, query=PageQuery, responses={200: Page[WorkspaceView]})
async def list_workspaces(request: web.Request) -> web.Response:
    """Return one page of the workspaces."""
    query = read_query(request, PageQuery)
    found = await workspaces.list_workspaces(resources_of(request), before=query.cursor, limit=query.limit + 1)
    return json_response(page_by_id(found, query.limit, render_workspace))


@routes.get("/v1/workspaces/{workspace_id}")
@operation("Show a workspace", Access.ADMIN, responses={200: WorkspaceView})
async def get_workspace(request: web.Request) -> web.Response:
    """Return one workspace, including one that is being deleted."""
    workspace_id = parse_id("ws", request.match_info["workspace_id"])
    return json_response(render_workspace(await workspaces.get_workspace(resources_of(request), workspace_id)))


@routes.delete("/v1/workspaces/{workspace_id}")
@operation("Delete a workspace and everything in it", Access.ADMIN, responses={202: AcceptedDeletionView})
async def delete_workspace(request: web.Request) -> web.Response:
    """Accept the deletion; from now on the workspace's keys do not work."""
    workspace_id = parse_id("ws", request.match_info["workspace_id"])
    deletion = await request_workspace_deletion(resources_of(request), workspace_id)
    return json_response(render_accepted_deletion(deletion), status=202)

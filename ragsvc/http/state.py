"""Typed keys of the application and of a request, and accessors for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from ragsvc.resources import Resources

if TYPE_CHECKING:
    from uuid import UUID

REQUEST_ID = web.RequestKey("request_id", str)
RESOURCES = web.AppKey("resources", Resources)
_SCOPED = web.RequestKey("scoped_resources", Resources)


def resources_of(request: web.Request) -> Resources:
    """Return the process's resources, limited to the caller's workspace once the caller is authenticated."""
    return request.get(_SCOPED) or request.app[RESOURCES]


def enter_workspace(request: web.Request, workspace_id: UUID) -> None:
    """Limit the resources of the rest of the request to this workspace."""
    request[_SCOPED] = request.app[RESOURCES].scoped_to(workspace_id)


def request_id_of(request: web.Request) -> str:
    """Return the id under which the request is logged."""
    return request[REQUEST_ID]


def public_url_of(request: web.Request) -> str:
    """Return the URL at which clients reach the API, without a trailing slash."""
    return resources_of(request).settings.api.public_url or str(request.url.origin())

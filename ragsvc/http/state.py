"""What the application carries: typed keys of the app and of a request."""

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
    """Return the process's open connections; once a workspace's caller is known, they see that workspace alone."""
    return request.get(_SCOPED) or request.app[RESOURCES]


def enter_workspace(request: web.Request, workspace_id: UUID) -> None:
    """Let the rest of the request see this workspace alone."""
    request[_SCOPED] = request.app[RESOURCES].scoped_to(workspace_id)


def request_id_of(request: web.Request) -> str:
    """Return the id under which the request is logged."""
    return request[REQUEST_ID]


def public_url_of(request: web.Request) -> str:
    """Return the URL under which clients reach the API, without a slash at its end."""
    return resources_of(request).settings.api.public_url or str(request.url.origin())

"""What the application carries: typed keys of the app and of a request."""

from __future__ import annotations

from aiohttp import web

from ragsvc.resources import Resources

REQUEST_ID = web.RequestKey("request_id", str)
RESOURCES = web.AppKey("resources", Resources)


def resources_of(request: web.Request) -> Resources:
    """Return the process's open connections."""
    return request.app[RESOURCES]


def request_id_of(request: web.Request) -> str:
    """Return the id under which the request is logged."""
    return request[REQUEST_ID]


def public_url_of(request: web.Request) -> str:
    """Return the URL under which clients reach the API, without a slash at its end."""
    return resources_of(request).settings.public_url or str(request.url.origin())

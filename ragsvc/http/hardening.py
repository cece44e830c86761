"""Checks the Host header, and adds the security headers of every response.

Source: OWASP, "REST Security Cheat Sheet".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

from aiohttp import web

from ragsvc.errors.requests import RequestError, UnknownHost
from ragsvc.http.contract.operations import PROBES
from ragsvc.http.state import resources_of

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# API responses are not pages, so browsers must not load anything for them, nor frame, embed or cache them.
HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# Keeps browsers on HTTPS; sent only if PUBLIC_URL is https.
HSTS = "max-age=31536000"


@web.middleware
async def check_host(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse hosts that are not in ALLOWED_HOSTS, if it is set.

    Health checks and metrics are exempt, since they are requested from the address of the process.

    Raises:
        UnknownHost: the request is for another host.
        RequestError: the Host header is not a host.
    """
    if request.path not in PROBES:
        allowed = resources_of(request).settings.api.hosts
        if allowed and not _is_allowed(request.host, allowed):
            raise UnknownHost
        if not _is_readable(request):
            raise RequestError("The Host header is not valid.")
    return await handler(request)


async def harden(request: web.Request, response: web.StreamResponse) -> None:
    """Add the security headers that the response does not set itself; runs just before the headers are sent."""
    response.headers.pop("Server", None)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if (resources_of(request).settings.api.public_url or "").startswith("https://"):
        response.headers["Strict-Transport-Security"] = HSTS


def _is_readable(request: web.Request) -> bool:
    """Return whether links can be made of the Host header, whose port can be out of range."""
    try:
        request.url.origin()
    except ValueError:
        return False
    return True


def _is_allowed(asked: str, allowed: frozenset[str]) -> bool:
    try:
        host = urlsplit(f"//{asked}").hostname or ""
    except ValueError:
        return False
    parents = (host[position:] for position, character in enumerate(host) if character == ".")
    return host in allowed or any(f"*{parent}" in allowed for parent in parents)

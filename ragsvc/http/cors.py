"""CORS: lets pages from the origins in CORS_ALLOWED_ORIGINS call this API from a browser.

The API uses no cookies, so credentials are never allowed, and `*` gives no access without a key.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from ragsvc.http.state import resources_of

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

API_PREFIXES = ("/v1", "/tus", "/companion")
ANY = "*"
METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
# Browsers hide response headers from pages, except for a few basic ones and those listed here.
EXPOSED = ", ".join(
    (
        *("ETag", "Location", "Retry-After", "X-Request-Id", "X-Run-Id", "Ragsvc-Document-Id"),
        *("Idempotent-Replayed",),
        *("Content-Disposition", "Content-Range", "Accept-Ranges"),
        *("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"),
        *("Upload-Offset", "Upload-Length", "Upload-Expires", "Upload-Metadata", "Upload-Defer-Length"),
        *("Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Max-Size", "Tus-Checksum-Algorithm"),
    )
)
# The longest time for which Chromium caches a preflight response.
MAX_AGE_S = 7200


@web.middleware
async def respond_to_preflights(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Respond to preflight requests, which carry no key; pass on other OPTIONS requests."""
    is_preflight = request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
    if not is_preflight or _allowed_origin(request) is None:
        return await handler(request)
    headers = {
        hdrs.ACCESS_CONTROL_ALLOW_METHODS: METHODS,
        hdrs.ACCESS_CONTROL_MAX_AGE: str(MAX_AGE_S),
        hdrs.VARY: hdrs.ACCESS_CONTROL_REQUEST_HEADERS,
    }
    if wanted := request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS):
        # Allow all headers, because clients add their own, and the routes ignore those that they do not know.
        headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = wanted
    return web.Response(status=204, headers=headers)


async def add_cors_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Let pages from allowed origins read the response, including errors and streams; runs just before it is sent."""
    if not _is_api(request) or not resources_of(request).settings.api.cors_origins:
        return
    response.headers.add(hdrs.VARY, hdrs.ORIGIN)
    origin = _allowed_origin(request)
    if origin is not None:
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = EXPOSED


def _allowed_origin(request: web.Request) -> str | None:
    origin = request.headers.get(hdrs.ORIGIN)
    allowed = resources_of(request).settings.api.cors_origins
    if origin is None or not _is_api(request) or not {origin, ANY} & allowed:
        return None
    return ANY if ANY in allowed else origin


def _is_api(request: web.Request) -> bool:
    return any(request.path == api or request.path.startswith(f"{api}/") for api in API_PREFIXES)

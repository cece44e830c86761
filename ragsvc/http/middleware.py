"""Middlewares for every request: request id, logging, authentication, and errors as problem+json."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext

import structlog
from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError

from ragsvc.db.connections.pool import is_transient
from ragsvc.domain.audit import SERVICE, acting
from ragsvc.domain.ids import new_id
from ragsvc.errors.base import RagsvcError
from ragsvc.errors.requests import NotFound, ProviderRefused, RequestError, Unavailable
from ragsvc.errors.work import OutageFailure, ProviderRejected, TransientFailure
from ragsvc.http.auth import authenticate, authenticate_upload_token
from ragsvc.http.contract.headers import REQUEST_ID_HEADER
from ragsvc.http.contract.ids import KINDS
from ragsvc.http.contract.openapi.parameters import ID_PARAMETERS, path_names
from ragsvc.http.contract.operations import EVENT_STREAM, PROBES
from ragsvc.http.contract.problems import error_of_status, problem_response
from ragsvc.http.limits.connections import handling
from ragsvc.http.limits.traffic import TRAFFIC
from ragsvc.http.state import REQUEST_ID, request_id_of
from ragsvc.shares import SERVICE as NOBODY
from ragsvc.shares import holder_now
from ragsvc.telemetry.metrics import HTTP_REQUEST_DURATION, HTTP_REQUESTS, HTTP_REQUESTS_IN_FLIGHT, REQUESTS_REFUSED
from ragsvc.telemetry.spans import Span, SpanKind
from ragsvc.telemetry.traces import NO_SPAN, span

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_ACCEPTED_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_STARTED = web.RequestKey("response_started", bool)
_IS_REFUSED = web.RequestKey("is_refused", bool)
_CODE = web.RequestKey("problem_code", str)
_MAX_FORWARDED_CHARS = 300
# An upload token is a secret, so it must not be logged.
_TOKEN_IN_PATH = re.compile(r"^(/companion/)[^/]+")
# Refusals under load are counted, and logged at debug level only.
REFUSALS = frozenset({"rate_limited", "too_many_streams", "overloaded"})
# Other methods share one label value: clients can send any method, and every label value adds a metric series.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNKNOWN_ROUTE = "unknown"
# Never sent: logged when the client disconnected before the response (nginx uses the same status).
CLIENT_LEFT = 499
FIRST_SERVER_ERROR = 500

log = structlog.get_logger(__name__)


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request its id, count it while it is in flight, and log its outcome."""
    request_id = request[REQUEST_ID] = _accept_request_id(request)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id)
    # aiohttp handles all requests of a connection in one task, so the previous actor and holder are still set.
    acting.set(SERVICE)
    holder_now.set(NOBODY)
    started = time.perf_counter()
    response: web.StreamResponse | None = None
    with (
        request.app[TRAFFIC].request(),
        handling(request),
        HTTP_REQUESTS_IN_FLIGHT.track_inprogress(),
        _tracing(request) as traced,
    ):
        try:
            response = await handler(request)
        finally:
            _report(request, response, traced, duration_s=time.perf_counter() - started)
    return response


@web.middleware
async def respond_with_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into problem+json; unexpected ones are logged here, once."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:  # noqa: PLR2004 - a redirect
            raise
        return _translate(request, error)
    except Exception as error:  # noqa: BLE001 - the only boundary for unexpected errors
        if request.transport is None and isinstance(error, (OSError, web.RequestPayloadError)):
            return web.Response(status=CLIENT_LEFT)
        if request.get(_STARTED):
            return _cut(request, error)
        return _respond(request, _name_kind(request, _explain(error)))


@web.middleware
async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Require a key under /v1 and /tus, and an upload token under /companion, even for routes that do not exist."""
    # tus clients discover versions and extensions before they authenticate.
    is_open = request.method == "OPTIONS" and request.path == "/tus"
    if _is_under("/v1", request) or (_is_under("/tus", request) and not is_open):
        await authenticate(request)
    elif request.path.startswith("/companion/"):
        await authenticate_upload_token(request)
    return await handler(request)


async def finish_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add the headers common to all responses, including streams; runs just before they are sent."""
    request[_STARTED] = True
    if REQUEST_ID in request:
        response.headers[REQUEST_ID_HEADER] = request_id_of(request)
    if request.app[TRAFFIC].is_draining:
        # Close the connection, so that the client's next request reaches another process.
        response.headers["Connection"] = "close"
        response.force_close()


def _tracing(request: web.Request) -> AbstractContextManager[Span]:
    route = _route_of(request)
    if route in PROBES:
        return nullcontext(NO_SPAN)
    attributes = {
        "http.request.method": request.method,
        "http.route": route,
        "url.path": _loggable_path(request),
        "ragsvc.request_id": request_id_of(request),
    }
    parent = request.headers.get("traceparent")
    return span(f"{request.method} {route}", SpanKind.SERVER, attributes, parent=parent)


def _report(request: web.Request, response: web.StreamResponse | None, traced: Span, *, duration_s: float) -> None:
    route = _route_of(request)
    status = response.status if response is not None else CLIENT_LEFT
    method = request.method if request.method in METHODS else "other"
    HTTP_REQUESTS.labels(method, route, status).inc()
    if response is None or response.content_type != EVENT_STREAM:
        HTTP_REQUEST_DURATION.labels(method, route).observe(duration_s)
    traced.set({"http.response.status_code": status})
    if status >= FIRST_SERVER_ERROR:
        traced.fail(str(status))
    # Frequent probes and a flood of refusals would drown the rest of the log.
    record = log.debug if route in PROBES or _IS_REFUSED in request else log.info
    record(
        "request_finished",
        method=request.method,
        path=_loggable_path(request),
        route=route,
        status=status,
        code=request.get(_CODE),
        client=request.remote,
        forwarded_for=_read_forwarded_for(request),
        duration_ms=round(duration_s * 1000, 2),
    )


def _read_forwarded_for(request: web.Request) -> str | None:
    """Return the beginning of the unverified header, with undecodable bytes replaced; None if it is missing."""
    value = request.headers.get("X-Forwarded-For")
    return value[:_MAX_FORWARDED_CHARS].encode("utf-8", "replace").decode() if value else None


def _loggable_path(request: web.Request) -> str:
    return _TOKEN_IN_PATH.sub(r"\1…", request.path)


def _is_under(root: str, request: web.Request) -> bool:
    return request.path == root or request.path.startswith(f"{root}/")


def _explain(error: Exception) -> RagsvcError:
    match error:
        case RequestError():
            return error
        case web.RequestPayloadError() | HttpProcessingError():
            return _explain_body(error)
        case TransientFailure() | OutageFailure():
            log.warning("provider_failed", code=error.work_code, error=error.detail)
            return Unavailable(error.detail)
        case ProviderRejected():
            log.error("provider_refused", code=error.work_code, error=error.detail)
            return ProviderRefused(error.detail)
    if is_transient(error):
        log.warning("database_failed", error=error)
        return Unavailable()
    log.error("request_failed", exc_info=error)
    return RagsvcError("An unexpected error occurred; the server's log has the details under this request id.")


def _name_kind(request: web.Request, error: RagsvcError) -> RagsvcError:
    """Return the error, which says what kind of resource the last id of the path does not name."""
    if isinstance(error, NotFound) and not error.is_specific:
        kinds = [ID_PARAMETERS[name] for name in path_names(_route_of(request)) if name in ID_PARAMETERS]
        return NotFound(kind=KINDS[kinds[-1]]) if kinds else error
    return error


def _explain_body(error: Exception) -> RequestError:
    if isinstance(error.__cause__ or error, ContentEncodingError):
        return RequestError("The body does not match its Content-Encoding.")
    return RequestError(f"The body cannot be read: {error}")


def _respond(request: web.Request, error: RagsvcError) -> web.Response:
    if error.code in REFUSALS:
        request[_IS_REFUSED] = True
        REQUESTS_REFUSED.labels(error.code).inc()
    request[_CODE] = error.code
    return problem_response(error, request_id=request_id_of(request))


def _translate(request: web.Request, error: web.HTTPException) -> web.Response:
    response = _respond(request, error_of_status(error.status))
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def _cut(request: web.Request, error: Exception) -> web.StreamResponse:
    # The status has been sent: an aborted connection is the only way to signal an incomplete response.
    if request.transport is not None:
        if isinstance(error, RequestError):
            # What was being sent has been deleted, or its reader's key revoked.
            log.info("response_ended", code=error.code)
        else:
            log.error("response_failed", exc_info=error)
        request.transport.abort()
    return web.Response(status=CLIENT_LEFT)


def _accept_request_id(request: web.Request) -> str:
    offered = request.headers.get(REQUEST_ID_HEADER, "")
    return offered if _ACCEPTED_REQUEST_ID.fullmatch(offered) else f"req_{new_id().hex}"


def _route_of(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else UNKNOWN_ROUTE

"""Contracts of routes: access, requests and responses, which are enforced and described in OpenAPI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING
from uuid import UUID

from aiohttp import web

from ragsvc.domain.workspaces import Scope
from ragsvc.errors.requests import InvalidRequest
from ragsvc.http.auth import Access, is_admin, require, require_admin, uploader_of

if TYPE_CHECKING:
    from ragsvc.errors.requests import RequestError
    from ragsvc.http.contract.bodies import Body, Query

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Again = Callable[[web.Request, UUID], Awaitable[web.StreamResponse | None]]


@dataclass(frozen=True, slots=True)
class Media:
    """A response that is not JSON; if `json` is set, some requests get JSON instead.

    `events` maps the names of a stream's events to the type of their data.
    """

    content_type: str
    description: str
    other_content_types: tuple[str, ...] = ()
    json: type | None = None
    events: Mapping[str, type] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HeaderField:
    """A request header that a handler reads, or a response header."""

    name: str
    description: str
    schema: Mapping[str, object] = field(default_factory=lambda: {"type": "string"})
    required: bool = False


# A response body: a TypedDict, a `Media` if it is not JSON, or None if it is empty.
ResponseBody = object


@dataclass(frozen=True, slots=True)
class Operation:
    """A route's contract."""

    summary: str
    access: tuple[Scope | Access, ...]
    responses: Mapping[int, ResponseBody]
    body: type[Body] | None = None
    form: type[Body] | None = None
    query: type[Query] | None = None
    body_optional: bool = False
    raw_body: str | None = None
    headers: tuple[HeaderField, ...] = ()
    response_headers: Mapping[int, tuple[HeaderField, ...]] = field(default_factory=dict)
    problems: tuple[type[RequestError], ...] = field(default=())
    again: Again | None = None
    shows_secret: bool = False


EVENT_STREAM = "text/event-stream"
# Served without a slot, because supervisors and Prometheus must see the process even under overload.
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})

_OPERATIONS: dict[object, Operation] = {}


def operation(
    summary: str,
    *access: Scope | Access,
    responses: Mapping[int, ResponseBody],
    body: type[Body] | None = None,
    form: type[Body] | None = None,
    query: type[Query] | None = None,
    body_optional: bool = False,
    raw_body: str | None = None,
    headers: tuple[HeaderField, ...] = (),
    response_headers: Mapping[int, tuple[HeaderField, ...]] | None = None,
    problems: tuple[type[RequestError], ...] = (),
    again: Again | None = None,
    shows_secret: bool = False,
) -> Callable[[Handler], Handler]:
    """Declare a handler's contract; only a caller that passes its access check reaches the handler.

    `access` is a single `Access`, or a list of scopes, of which a key needs at least one; the list can also include
    `Access.ADMIN`. `body`, `form` and `query` are the models that the handler passes to `read_body`, `FormReader` and
    `read_query`. `raw_body` is the content type of a body that the handler reads as a stream of bytes. `headers` are
    the request headers that the handler reads. `response_headers` maps a status to the headers that are sent in
    addition to the common ones. `problems` are the errors that the other arguments do not imply. `again` rebuilds the
    response to a repeated request from the id of the resource that the first request created. If the response
    `shows_secret`, it is never stored, so it is always rebuilt.
    """
    contract = Operation(
        summary=summary,
        access=access,
        responses=responses,
        body=body,
        form=form,
        query=query,
        body_optional=body_optional,
        raw_body=raw_body,
        headers=headers,
        response_headers=response_headers or {},
        problems=problems,
        again=again,
        shows_secret=shows_secret,
    )

    return lambda handler: _guard(handler, contract)


def _guard(handler: Handler, contract: Operation) -> Handler:
    @wraps(handler)
    async def guarded(request: web.Request) -> web.StreamResponse:
        check_access(request, contract)
        _refuse_parameters(request, contract)
        return await handler(request)

    _OPERATIONS[guarded] = contract
    return guarded


def is_strict(path: str) -> bool:
    """Return whether unknown parameters are refused, as they are under /v1 but not in protocols that others define."""
    return path.startswith("/v1/")


def is_repeatable(method: str, path: str) -> bool:
    """Return whether a route takes an Idempotency-Key, as every POST under /v1 does; tus and Companion need none."""
    return method == "POST" and path.startswith("/v1/")


def _refuse_parameters(request: web.Request, contract: Operation) -> None:
    """Refuse a query string if the operation takes none; otherwise `read_query` checks it.

    Raises:
        InvalidRequest: the request has query parameters.
    """
    if contract.query is None and request.query and is_strict(request.path):
        raise InvalidRequest(fields=dict.fromkeys(request.query, "is not a parameter of this operation"))


def operation_of(handler: object) -> Operation | None:
    """Return the contract of a route's handler, or None if it declares none."""
    return _OPERATIONS.get(handler)


def check_access(request: web.Request, contract: Operation) -> None:
    """Check that the caller has one of the kinds of access that the route allows.

    Raises:
        Unauthorized: the route needs a key or token that the request lacks.
        Forbidden: the key gives no access to the route.
    """
    access = contract.access
    if Access.PUBLIC in access:
        return
    scopes = [access for access in access if isinstance(access, Scope)]
    if Access.UPLOAD_TOKEN in access:
        uploader_of(request)
    elif Access.ADMIN in access and (is_admin(request) or not scopes):
        require_admin(request)
    else:
        require(request, *scopes)

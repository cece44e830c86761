"""Admission control: a process refuses excess requests early and cheaply, and limits how long each one takes.

A slot covers the server's work on a request, not the time that its client takes. A request holds no slot
while its body arrives, and file transfers and streams release theirs; `storage.budget`, `http.sse` and
`http.limits.connections` limit those.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from ragsvc.errors.requests import RequestTimeout, Unavailable
from ragsvc.http.contract.operations import PROBES, operation_of
from ragsvc.http.limits.connections import handler_times_body
from ragsvc.http.limits.slots import Slot, Slots
from ragsvc.shares import TOO_SLOW, Share, Shares
from ragsvc.tasks import expiring

if TYPE_CHECKING:
    from ragsvc.settings.settings import Settings

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

JSON = "application/json"
# Most clients have given up by then.
MAX_WAIT_S = 30.0
# The memory for bodies is enough for this many of the largest permitted size.
BODIES_AT_ONCE = 64

log = structlog.get_logger(__name__)


class Admission:
    """The slots, the memory for bodies and the time limits of one process."""

    def __init__(self, settings: Settings) -> None:
        self.slots = Slots(settings.api.max_requests, max_wait_s=MAX_WAIT_S)
        self.bodies = Shares("json_bodies", BODIES_AT_ONCE * settings.api.max_json_body_bytes)
        self.body_timeout_s = settings.api.client_timeout_s
        self.request_timeout_s = settings.api.request_timeout_s
        self.max_body_bytes = settings.api.max_json_body_bytes


class Permit:
    """A request's slot and its deadline."""

    def __init__(self, slot: Slot, deadline: asyncio.Timeout) -> None:
        self.slot = slot
        self._deadline = deadline

    def end(self) -> None:
        """Release the slot and lift the deadline; the request continues without either. Idempotent."""
        if not self._deadline.expired():
            self._deadline.reschedule(None)
        self.slot.release()


ADMISSION = web.AppKey("admission", Admission)
_PERMIT = web.RequestKey("permit", Permit)


@web.middleware
async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Handle the request once a slot is free, and cancel it after REQUEST_TIMEOUT_S.

    Raises:
        Overloaded: no slot became free in time.
        Unavailable: the request took longer than REQUEST_TIMEOUT_S.
    """
    if request.path in PROBES:
        return await handler(request)
    admission = request.app[ADMISSION]
    slot = await admission.slots.acquire(_route_of(request))
    try:
        async with asyncio.timeout(admission.request_timeout_s) as deadline:
            request[_PERMIT] = Permit(slot, deadline)
            if _has_streamed_body(request):
                end_permit(request)
            return await handler(request)
    except TimeoutError:
        if not deadline.expired():
            raise
        log.warning("request_timed_out", timeout_s=admission.request_timeout_s)
        raise Unavailable("The request took too long and was cancelled.") from None
    finally:
        del request[_PERMIT]
        slot.release()


@web.middleware
async def receive_body(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Before the handler runs, read a body that fits into memory; while it arrives, the request holds no slot.

    Raises:
        Overloaded: the memory for bodies is used up.
        RequestTimeout: the body did not arrive within CLIENT_TIMEOUT_S, or was the slowest when memory was used up.
    """
    if not _has_buffered_body(request):
        return await handler(request)
    admission = request.app[ADMISSION]
    share = admission.bodies.open()
    try:
        await _receive(request, admission, share)
        return await handler(request)
    finally:
        share.release()


async def _receive(request: web.Request, admission: Admission, share: Share) -> None:
    slot = request[_PERMIT].slot
    if not request.content.is_eof():
        slot.release()
        handler_times_body(request)
    try:
        async with asyncio.timeout(admission.body_timeout_s) as deadline:
            share.end = expiring(deadline)
            # aiohttp's own `read`, which all readers of the body call, then returns these bytes.
            request._read_bytes = await _read(request, share, max_bytes=admission.max_body_bytes)  # noqa: SLF001
    except TimeoutError:
        if not deadline.expired():
            raise
        raise RequestTimeout(TOO_SLOW if share.is_ending else None) from None
    finally:
        share.end = None
    await slot.reacquire()


async def _read(request: web.Request, share: Share, *, max_bytes: int) -> bytes:
    """Read the body; memory is reserved for what has arrived, not for what was announced."""
    body = bytearray()
    while block := await request.content.readany():
        if len(body) + len(block) > max_bytes:
            raise web.HTTPRequestEntityTooLarge(max_bytes, len(body) + len(block))
        share.grow(len(block))
        body += block
    return bytes(body)


def end_permit(request: web.Request) -> None:
    """Let a streaming request continue without a slot or a deadline."""
    if (permit := request.get(_PERMIT)) is not None:
        permit.end()


async def end_permit_of_stream(request: web.Request, response: web.StreamResponse) -> None:
    """End the permit of a response that is streamed; runs just before its headers are sent."""
    if not isinstance(response, web.Response):
        end_permit(request)


def _has_buffered_body(request: web.Request) -> bool:
    """Return whether the request's body is read into memory as a whole."""
    contract = operation_of(request.match_info.handler)
    if contract is None or contract.body is None or not request.body_exists:
        return False
    return contract.form is None or request.content_type == JSON


def _has_streamed_body(request: web.Request) -> bool:
    """Return whether the request's body is processed as a stream."""
    contract = operation_of(request.match_info.handler)
    if contract is None or not request.body_exists or _has_buffered_body(request):
        return False
    return contract.form is not None or contract.raw_body is not None


def _route_of(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return f"{request.method} {resource.canonical}" if resource is not None else "unknown"

"""Which requests a process takes on, and for how long: what is too much is refused early, for little work.

A place is held for the work of a request, not for what its client does: bodies are waited for without one, files and
streams give theirs back, and are judged by limits of their own (`storage.budget`, `http.sse`, `http.connections`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from ragsvc.errors import RequestTimeout, Unavailable
from ragsvc.http.contract.operations import PROBES, operation_of
from ragsvc.http.limits.connections import judge_body_elsewhere
from ragsvc.http.limits.slots import BodyBudget, Slot, Slots

if TYPE_CHECKING:
    from ragsvc.settings.settings import Settings

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

JSON = "application/json"
# A client that waits longer for a slot has usually given up.
MAX_WAIT_S = 30.0
# So many of the largest bodies are held at once.
BODIES_AT_ONCE = 64

log = structlog.get_logger(__name__)


class Admission:
    """What requests are admitted by."""

    def __init__(self, settings: Settings) -> None:
        self.slots = Slots(settings.api.max_requests, most_wait_s=MAX_WAIT_S)
        self.bodies = BodyBudget(BODIES_AT_ONCE * settings.api.max_json_body_bytes)
        self.body_timeout_s = settings.api.client_timeout_s
        self.request_timeout_s = settings.api.request_timeout_s
        self.most_body_bytes = settings.api.max_json_body_bytes


class Permit:
    """A request's place, and the time that it has."""

    def __init__(self, slot: Slot, deadline: asyncio.Timeout) -> None:
        self.slot = slot
        self._deadline = deadline

    def end(self) -> None:
        """Let the request go on without either; again is fine."""
        if not self._deadline.expired():
            self._deadline.reschedule(None)
        self.slot.release()


ADMISSION = web.AppKey("admission", Admission)
_PERMIT = web.RequestKey("stay", Permit)


@web.middleware
async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let the request in once there is a place for it, and end it when its time is over.

    Raises:
        Overloaded: there was no place for too long.
        Unavailable: the request took longer than REQUEST_TIMEOUT_S.
    """
    if request.path in PROBES:
        return await handler(request)
    admission = request.app[ADMISSION]
    slot = await admission.slots.take(_route_of(request))
    try:
        async with asyncio.timeout(admission.request_timeout_s) as deadline:
            request[_PERMIT] = Permit(slot, deadline)
            if _brings_file(request):
                release_slot(request)
            return await handler(request)
    except TimeoutError:
        if not deadline.expired():
            raise
        log.warning("request_timed_out", timeout_s=admission.request_timeout_s)
        raise Unavailable("The request took too long and was given up.") from None
    finally:
        del request[_PERMIT]
        slot.release()


@web.middleware
async def receive_body(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Wait for a body that is read whole, without a place meanwhile.

    Raises:
        Overloaded: other bodies take the memory for them.
        RequestTimeout: it did not come within CLIENT_TIMEOUT_S.
    """
    if not _brings_json(request):
        return await handler(request)
    admission = request.app[ADMISSION]
    size_bytes = request.content_length if request.content_length is not None else admission.most_body_bytes
    with admission.bodies.reserve(min(size_bytes, admission.most_body_bytes)):
        if not request.content.is_eof():
            await _read(request, admission)
        return await handler(request)


async def _read(request: web.Request, admission: Admission) -> None:
    slot = request[_PERMIT].slot
    slot.release()
    judge_body_elsewhere(request)
    try:
        async with asyncio.timeout(admission.body_timeout_s) as patience:
            await request.read()
    except TimeoutError:
        if not patience.expired():
            raise
        raise RequestTimeout from None
    await slot.retake()


def release_slot(request: web.Request) -> None:
    """Let a request that has a stream go on without a place and for any time."""
    if (permit := request.get(_PERMIT)) is not None:
        permit.end()


async def release_slot_to_send(request: web.Request, response: web.StreamResponse) -> None:
    """Let an answer that is sent as it comes go on without a place; runs just before its headers are sent."""
    if not isinstance(response, web.Response):
        release_slot(request)


def _brings_json(request: web.Request) -> bool:
    """Tell whether the request's body is read whole."""
    contract = operation_of(request.match_info.handler)
    if contract is None or contract.body is None or not request.body_exists:
        return False
    return contract.form is None or request.content_type == JSON


def _brings_file(request: web.Request) -> bool:
    """Tell whether the request's body is streamed on."""
    contract = operation_of(request.match_info.handler)
    if contract is None or not request.body_exists or _brings_json(request):
        return False
    return contract.form is not None or contract.raw_body is not None


def _route_of(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return f"{request.method} {resource.canonical}" if resource is not None else "unknown"

"""Limits the memory of responses that wait for their readers, with a share for each workspace."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from ragsvc.errors.requests import Overloaded
from ragsvc.http.limits.admission import end_permit
from ragsvc.shares import Shares

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SENDING = web.AppKey("sending", Shares)
# What a file or a text that is sent in blocks takes, whatever its size: a block and the buffers of its sockets.
BLOCK_BYTES = 256 * 1024
# The sockets' own buffers take a smaller response, which does not have to wait for its reader.
MIN_COUNTED_BYTES = 64 * 1024
MAX_WAIT_S = 10.0


def open_sending(size_bytes: int) -> Shares:
    """Return the memory for responses that are being sent."""
    return Shares("sending", size_bytes, max_wait_s=MAX_WAIT_S)


@asynccontextmanager
async def sending_blocks(request: web.Request, *, blocks: int = 1) -> AsyncIterator[None]:
    """Hold the memory of a response that is sent in blocks; a slow reader holds nothing else.

    Raises:
        Overloaded: the memory for responses is used up.
    """
    end_permit(request)
    async with request.app[SENDING].hold(blocks * BLOCK_BYTES):
        yield


@web.middleware
async def send_within_share(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Send a response that exists as a whole; a large one counts until its reader has taken it.

    Raises:
        Overloaded: the memory for responses is used up.
    """
    response = await handler(request)
    size_bytes = _size_of(response)
    if size_bytes < MIN_COUNTED_BYTES:
        return response
    # It is in memory already, so it does not wait for its turn.
    share = request.app[SENDING].try_take(size_bytes)
    if share is None:
        raise Overloaded("Too many responses are waiting for their readers; try again later.")
    try:
        await response.prepare(request)
        await response.write_eof()
    finally:
        share.release()
    return response


def _size_of(response: web.StreamResponse) -> int:
    if not isinstance(response, web.Response) or response.prepared:
        return 0
    return len(response.body) if isinstance(response.body, bytes) else 0

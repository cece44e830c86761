"""Reads a request's body, including the last bytes before a disconnect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def arrived_blocks(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the body in blocks; if the client disconnects, end with the bytes received before that."""
    content = request.content
    try:
        while block := await content.readany():
            yield block
    except (OSError, web.RequestPayloadError, HttpProcessingError) as error:
        if request.transport is not None:
            raise
        # From now on aiohttp raises the error on every read, although its buffer can still contain bytes.
        content.set_exception(None)  # type: ignore[arg-type]
        if rest := content.read_nowait():
            yield rest
        content.set_exception(error)

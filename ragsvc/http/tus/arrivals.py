"""A request's body as it arrives, to the last byte before a cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def arrived_blocks(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the body; where the client's connection is cut, end with what had come before."""
    content = request.content
    try:
        while block := await content.readany():
            yield block
    except (OSError, web.RequestPayloadError, HttpProcessingError) as error:
        if request.transport is not None:
            raise
        # The framework answers reads with the error from then on, though it still holds bytes.
        content.set_exception(None)  # type: ignore[arg-type]
        if rest := content.read_nowait():
            yield rest
        content.set_exception(error)

"""Counts the requests in flight, so that a stopping process can finish them first."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Iterator


class Traffic:
    """The requests in flight; once `is_draining` is set, /readyz fails and responses close their connection."""

    def __init__(self) -> None:
        self.is_draining = False
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count one request while the context is open."""
        self._in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    async def idle(self) -> None:
        """Wait until no request is in flight."""
        await self._idle.wait()


TRAFFIC = web.AppKey("traffic", Traffic)

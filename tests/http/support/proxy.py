"""A way to a server that a test can cut and mend."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Proxy:
    """Listens on `host` and `port` and passes every byte on, until it is cut."""

    def __init__(self, target_host: str, target_port: int) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self._target = (target_host, target_port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        """Begin to listen."""
        await self.mend()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self.cut()

    async def mend(self) -> None:
        """Listen again, where it did before."""
        self._server = await asyncio.start_server(self._pass_on, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Close every connection and take no new one."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, there_writer}
        try:
            await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))
        finally:
            self._writers -= {writer, there_writer}


class TearingProxy(Proxy):
    """Tears every connection off after as many bytes from the client as `next_limit` says."""

    def __init__(self, target_host: str, target_port: int, next_limit: Callable[[], int]) -> None:
        super().__init__(target_host, target_port)
        self.connections = 0
        self.torn = 0
        self._next_limit = next_limit

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, there_writer}
        back = asyncio.create_task(_copy(there_reader, writer))
        try:
            limit = self._next_limit()
            self.connections += 1
            if await _copy_some(reader, there_writer, limit):
                self.torn += 1
        finally:
            # What was passed on arrives before the end of the line does.
            there_writer.close()
            writer.transport.abort()
            await back
            self._writers -= {writer, there_writer}


class DeafProxy(Proxy):
    """Passes requests on and cuts the line before the answers that `loses` names; its clients cannot tell why."""

    def __init__(self, target_host: str, target_port: int, *, loses: int) -> None:
        super().__init__(target_host, target_port)
        self.left = loses

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, there_writer}
        asking = asyncio.create_task(_copy(reader, there_writer))
        try:
            # By the first byte of its answer, the service has committed.
            first = await there_reader.read(1)
            if self.left:
                self.left -= 1
                return
            writer.write(first)
            await _copy(there_reader, writer)
        finally:
            asking.cancel()
            for end in (writer, there_writer):
                end.transport.abort()
            self._writers -= {writer, there_writer}


async def _copy_some(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int) -> bool:
    """Pass so many bytes on; False when there were fewer."""
    left = limit
    with suppress(ConnectionError):
        while block := await reader.read(min(64 * 1024, left)):
            writer.write(block)
            await writer.drain()
            left -= len(block)
            if not left:
                return True
    return False


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while block := await reader.read(64 * 1024):
            writer.write(block)
            await writer.drain()
    writer.close()

"""TCP proxies whose connections a test can interrupt and restore."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Proxy:
    """Listens on `host` and `port` and forwards every byte until it is cut."""

    def __init__(self, target_host: str, target_port: int) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self._target = (target_host, target_port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        """Start listening."""
        await self.mend()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self.cut()

    async def mend(self) -> None:
        """Listen again on the same port."""
        self._server = await asyncio.start_server(self._forward, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Abort every connection and accept no new one."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, server_writer}
        try:
            await asyncio.gather(_copy(reader, server_writer), _copy(server_reader, writer))
        finally:
            self._writers -= {writer, server_writer}


class TearingProxy(Proxy):
    """Aborts each connection after forwarding `next_limit()` bytes from the client."""

    def __init__(self, target_host: str, target_port: int, next_limit: Callable[[], int]) -> None:
        super().__init__(target_host, target_port)
        self.connections = 0
        self.torn = 0
        self._next_limit = next_limit

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, server_writer}
        back = asyncio.create_task(_copy(server_reader, writer))
        try:
            limit = self._next_limit()
            self.connections += 1
            if await _copy_some(reader, server_writer, limit):
                self.torn += 1
        finally:
            # The server receives the forwarded bytes before the end of the connection.
            server_writer.close()
            writer.transport.abort()
            await back
            self._writers -= {writer, server_writer}


class ResponseDroppingProxy(Proxy):
    """Forwards requests, but aborts the first `drops` connections before their responses reach the client."""

    def __init__(self, target_host: str, target_port: int, *, drops: int) -> None:
        super().__init__(target_host, target_port)
        self.left = drops

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, server_writer}
        asking = asyncio.create_task(_copy(reader, server_writer))
        try:
            # The service commits before it sends the first byte of its response.
            first = await server_reader.read(1)
            if self.left:
                self.left -= 1
                return
            writer.write(first)
            await _copy(server_reader, writer)
        finally:
            asking.cancel()
            for end in (writer, server_writer):
                end.transport.abort()
            self._writers -= {writer, server_writer}


async def _copy_some(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int) -> bool:
    """Forward `limit` bytes; False if there were fewer."""
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

"""Servers of a fleet: a Redis that can be killed, frozen and emptied, and proxies that fail as scripted."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Self

import aiohttp
from aiohttp import web
from pydantic import SecretStr
from redis.asyncio import Redis as RedisClient
from yarl import URL

from ragsvc.devstack.parts.redis import Redis
from ragsvc.devstack.ports import free_ports
from ragsvc.devstack.process import spawn
from tests.support.polling import until
from tests.support.servers.model_server import Cut, Endpoint, Fail, Pause

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from multidict import CIMultiDict

    from ragsvc.devstack.process import Process

HOP_BY_HOP = ("Connection", "Keep-Alive", "Transfer-Encoding")


class OwnRedis:
    """A Redis server for one fleet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._home = folder / "redis"
        self._part = Redis(self._home, port=free_ports(1)[0], password="faults", logs=folder)
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """The URL of the server."""
        return self._part.url

    @property
    def port(self) -> int:
        """The port of the server."""
        return int(self.url.rpartition(":")[2].removesuffix("/0"))

    @property
    def pid(self) -> int:
        """The pid of the server."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start the server with its existing data."""
        process = self._process = spawn(await self._part.prepare(), self._folder)

        async def is_ready() -> bool:
            return await self._part.is_ready(process)

        await until(is_ready, timeout_s=30, what="Redis")

    async def kill(self) -> None:
        """Kill the server with SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)
        assert self._process is not None
        await self._process.wait()

    def lose_data(self) -> None:
        """Remove the data of the killed server."""
        for path in self._home.iterdir():
            if path.name != "redis.conf":
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze the server until the `with` block ends; connections remain open."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[RedisClient]:
        """Yield a client with which a test changes the server."""
        client = RedisClient.from_url(self.url)
        try:
            yield client
        finally:
            await client.aclose()


class StoreProxy:
    """A proxy to the object store; `reads` and `deletes` script how it responds when objects are read or deleted."""

    def __init__(self, target: str) -> None:
        self.reads = Endpoint()
        self.deletes = Endpoint()
        self.url = ""
        self._target = target

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[StoreProxy]:
        """Serve on a free port."""
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._forward)
        # Responses are not decompressed, and the `Host` header is forwarded because signatures cover it.
        async with aiohttp.ClientSession(auto_decompress=False) as self._session:
            runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, auto_decompress=False)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            try:
                yield self
            finally:
                await runner.cleanup()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        behaviour = None
        endpoint = {"GET": self.reads, "DELETE": self.deletes}.get(request.method)
        if endpoint is not None and "/objects/" in request.path:
            endpoint.requests.append({"path": request.path})
            behaviour = endpoint.next()
        match behaviour:
            case Fail():
                error = f"<Error><Code>{behaviour.code}</Code><Message>{behaviour.message}</Message></Error>"
                return web.Response(status=behaviour.status, text=error, content_type="application/xml")
            case Pause():
                behaviour.reached.set()
                await behaviour.resumed.wait()
            case _:
                pass
        url = URL(self._target + request.raw_path, encoded=True)
        async with self._session.request(
            request.method, url, headers=request.headers, data=await request.read(), allow_redirects=False
        ) as response:
            body = await response.read()
            if isinstance(behaviour, Cut):
                return await _send_half(request, body, headers=response.headers.copy())
            headers = response.headers.copy()
            for name in HOP_BY_HOP:
                headers.popall(name, None)
            if request.method == "HEAD":
                return web.Response(status=response.status, headers=headers)
            return web.Response(status=response.status, body=body, headers=headers)


async def _send_half(request: web.Request, body: bytes, *, headers: CIMultiDict[str]) -> web.StreamResponse:
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


class CuttingProxy:
    """A proxy to a local server that drops a connection when the client sends certain bytes."""

    def __init__(self, port: int, trigger: bytes) -> None:
        self.cuts = 0
        self._target = port
        self._trigger = trigger
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Start listening."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Stop listening."""
        assert self._server is not None
        self._server.close()

    def url_of(self, url: str) -> SecretStr:
        """Return a URL of the server with the port of this proxy."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return SecretStr(url.replace(f":{self._target}/", f":{port}/"))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        back = asyncio.create_task(self._copy(server_reader, writer))
        try:
            while (block := await reader.read(65536)) and self._trigger not in block:
                server_writer.write(block)
            self.cuts += self._trigger in block
        finally:
            server_writer.close()
            writer.transport.abort()
            back.cancel()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while block := await reader.read(65536):
            writer.write(block)

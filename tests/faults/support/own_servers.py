"""Servers of the suite's own, which may be killed, frozen and emptied, and a way to the store that can fail."""

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
    """A Redis server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._home = folder / "redis"
        self._part = Redis(self._home, port=free_ports(1)[0], password="faults", logs=folder)
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """Its URL."""
        return self._part.url

    @property
    def port(self) -> int:
        """Its port."""
        return int(self.url.rpartition(":")[2].removesuffix("/0"))

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start it with the data that it has."""
        process = self._process = spawn(await self._part.prepare(), self._folder)

        async def is_ready() -> bool:
            return await self._part.is_ready(process)

        await until(is_ready, timeout_s=30, what="Redis")

    async def kill(self) -> None:
        """Kill it."""
        os.kill(self.pid, signal.SIGKILL)
        assert self._process is not None
        await self._process.wait()

    def lose_data(self) -> None:
        """Remove what a killed server has written."""
        for path in self._home.iterdir():
            if path.name != "redis.conf":
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Keep the server from answering; connections stay open."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[RedisClient]:
        """Yield a client for what a test does to the server."""
        client = RedisClient.from_url(self.url)
        try:
            yield client
        finally:
            await client.aclose()


class StoreProxy:
    """Passes requests on to the object store; `reads` and `deletes` script what becomes of those for an object."""

    def __init__(self, target: str) -> None:
        self.reads = Endpoint()
        self.deletes = Endpoint()
        self.url = ""
        self._target = target

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[StoreProxy]:
        """Serve on a free port."""
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        # The store's answers go as they came; `Host` too, because signatures cover it.
        async with aiohttp.ClientSession(auto_decompress=False) as self._session:
            runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, auto_decompress=False)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            try:
                yield self
            finally:
                await runner.cleanup()

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
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
        ) as answer:
            body = await answer.read()
            if isinstance(behaviour, Cut):
                return await _send_half(request, body, headers=answer.headers.copy())
            headers = answer.headers.copy()
            for name in HOP_BY_HOP:
                headers.popall(name, None)
            if request.method == "HEAD":
                return web.Response(status=answer.status, headers=headers)
            return web.Response(status=answer.status, body=body, headers=headers)


async def _send_half(request: web.Request, body: bytes, *, headers: CIMultiDict[str]) -> web.StreamResponse:
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


class CuttingProxy:
    """A way to a server on this machine that ends a connection as soon as the client sends certain words."""

    def __init__(self, port: int, words: bytes) -> None:
        self.cuts = 0
        self._target = port
        self._words = words
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Stop."""
        assert self._server is not None
        self._server.close()

    def url_of(self, url: str) -> SecretStr:
        """Return the URL of the server behind, by this way."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return SecretStr(url.replace(f":{self._target}/", f":{port}/"))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        back = asyncio.create_task(self._copy(there_reader, writer))
        try:
            while (block := await reader.read(65536)) and self._words not in block:
                there_writer.write(block)
            self.cuts += self._words in block
        finally:
            there_writer.close()
            writer.transport.abort()
            back.cancel()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while block := await reader.read(65536):
            writer.write(block)

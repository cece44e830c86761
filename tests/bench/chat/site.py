"""The setup of the chat benchmarks: a model process, an API process, a workspace with sources, and clients."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
import psutil

from ragsvc.devstack.ports import free_ports
from ragsvc.http.contract.ids import parse_id
from ragsvc.resources import open_resources
from tests.http.support.processes import serving
from tests.support.documents.library import Library
from tests.support.polling import until
from tests.support.remote import Remote
from tests.support.servers.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings

QUESTION = "How long do refunds take?"
DOCUMENTS = 40
DELTA = b"event: message.delta"
END = b"event: message.completed"


@dataclass(frozen=True, slots=True)
class Site:
    """The running processes and a client; `resources` are the benchmark's own connections to the API's stores."""

    http: aiohttp.ClientSession
    api: Remote
    pid: int
    model_url: str
    resources: Resources

    @property
    def workspace_id(self) -> UUID:
        """The workspace's UUID."""
        return parse_id("ws", self.api.workspace["id"])

    @property
    def memory_bytes(self) -> int:
        """The resident memory of the API process."""
        return int(psutil.Process(self.pid).memory_info().rss)

    @property
    def cpu_s(self) -> float:
        """The CPU time of the API process so far."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    async def begin_session(self, model: str) -> str:
        """Create a session and return the path of its messages."""
        path = f"{self.api.url}/v1/chat/sessions"
        async with self.http.post(path, json={"model": model}, headers=self.api.headers) as response:
            assert response.status == 201, await response.text()
            return f"{path}/{(await response.json())['id']}/messages"

    @asynccontextmanager
    async def ask(self, messages_path: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask a question in a session."""
        body = {"content": QUESTION}
        async with self.http.post(messages_path, json=body, headers=self.api.headers) as response:
            assert response.status == 200, await response.text()
            yield response

    async def time_first_words_s(self, model: str) -> float:
        """Return the seconds from a question to the first words of its answer."""
        path = await self.begin_session(model)
        started = time.perf_counter()
        async with self.ask(path) as response:
            taken = await _wait_for(response, DELTA, since=started)
            await response.read()
        return taken

    async def time_first_words_of_model_s(self, model: str) -> float:
        """Send a request directly to the model and return the seconds until its first words."""
        body = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "stream": True}
        started = time.perf_counter()
        async with self.http.post(f"{self.model_url}/v1/chat/completions", json=body) as response:
            taken = await _wait_for(response, b"word0", since=started)
            await response.read()
        return taken


async def _wait_for(response: aiohttp.ClientResponse, words: bytes, *, since: float) -> float:
    received = b""
    async for block in response.content.iter_any():
        received += block
        if words in received:
            return time.perf_counter() - since
    raise AssertionError(f"{words!r} never came: {received.decode()}")


@asynccontextmanager
async def open_site(settings: Settings) -> AsyncIterator[Site]:
    """Start both processes and fill a workspace."""
    async with AsyncExitStack() as stack:
        port = free_ports(1)[0]
        model_url = f"http://127.0.0.1:{port}"
        await stack.enter_async_context(_running_model(port))
        connector = aiohttp.TCPConnector(limit=0)
        http = await stack.enter_async_context(
            aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=600))
        )
        own = settings.changed({"openai_base_url": f"{model_url}/v1", "max_streams": 5000, "max_streams_per_key": 5000})
        api = await stack.enter_async_context(serving(own, LOG_LEVEL="warning"))
        remote = await Remote.make(http, await _listening(api.process.pid), own)
        resources = await stack.enter_async_context(open_resources(own, pool_size=2))
        library = Library(resources, parse_id("ws", remote.workspace["id"]))
        for number in range(DOCUMENTS):
            await library.add(*(f"Paragraph {part} of {number} says that refunds take 14 days." for part in range(5)))
        yield Site(http, remote, api.process.pid, model_url, resources)


async def _listening(pid: int) -> str:
    """Return the URL of a process that does not log its start."""

    def port() -> int | None:
        found = [link.laddr.port for link in psutil.Process(pid).net_connections("tcp") if link.status == "LISTEN"]
        return found[0] if found else None

    return f"http://127.0.0.1:{await until(port, timeout_s=60, what='the API')}"


@asynccontextmanager
async def _running_model(port: int) -> AsyncIterator[None]:
    command = (sys.executable, "-m", "tests.bench.chat.model_process", str(port))
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT)

    async def is_up() -> bool:
        try:
            _reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await until(is_up, timeout_s=60, what="the model")
        yield
    finally:
        process.kill()
        await process.wait()

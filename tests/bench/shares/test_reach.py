"""A hostile workspace with 500 connections neither slows down another one nor exhausts memory: `make bench`.

A third of its connections send JSON bodies byte by byte, a third send large files slowly, and a third read a large file
slowly; those that the process ends are opened again. `SHARES_BENCH_ROUNDS` is the number of timed rounds.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.bench.table import at_most, ratio_at_most
from tests.http.support.documents import form
from tests.http.support.processes import serving
from tests.support.remote import Remote

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ragsvc.settings.settings import Settings
    from tests.bench.table import BenchTable

ROUNDS = int(os.environ.get("SHARES_BENCH_ROUNDS", "100"))
CONNECTIONS = 500
WARM_UP_S = 5.0
HIGHEST_RATIO = 2.0
# UPLOAD_BUFFER_BYTES, its reserve for small files and SEND_BUFFER_BYTES come to 352 MiB.
HIGHEST_GROWTH_MIB = 400
MIB = 1024 * 1024

pytestmark = pytest.mark.bench


@dataclass(slots=True)
class Attack:
    """The connections of the hostile workspace."""

    remote: Remote
    host: str
    port: int
    document_id: str
    opened: int = 0
    ended: int = 0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        """Open all connections."""
        kinds = (self._trickle_body, self._send_slowly, self._read_slowly)
        self.tasks = [asyncio.create_task(self._repeat(kinds[number % 3])) for number in range(CONNECTIONS)]

    async def stop(self) -> None:
        """Close all connections."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _repeat(self, attack: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
        while True:
            reader, writer = await asyncio.open_connection(self.host, self.port, limit=4096)
            self.opened += 1
            try:
                await attack(reader, writer)
            except ConnectionError:
                pass
            finally:
                self.ended += 1
                writer.transport.abort()
            await asyncio.sleep(1)

    def _head(self, line: str, *headers: str) -> bytes:
        key = f"Authorization: Bearer {self.remote.key}"
        return "\r\n".join([f"{line} HTTP/1.1", "Host: x", key, *headers, "", ""]).encode()

    async def _drip(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, block: bytes) -> None:
        response = asyncio.create_task(reader.read(1))
        try:
            while not response.done():
                writer.write(block)
                await asyncio.wait({response}, timeout=1)
        finally:
            response.cancel()

    async def _trickle_body(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        json = "Content-Type: application/json"
        writer.write(self._head("POST /v1/search", json, "Content-Length: 1000000"))
        await self._drip(reader, writer, b" ")

    async def _send_slowly(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind = "Content-Type: multipart/form-data; boundary=b"
        writer.write(self._head("POST /v1/documents", kind, "Content-Length: 100000000"))
        writer.write(b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + bytes(300_000))
        await self._drip(reader, writer, b"x" * 1600)

    async def _read_slowly(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._head(f"GET /v1/documents/{self.document_id}/content"))
        while await reader.read(4096):  # noqa: ASYNC110 - a slow reader sleeps between reads
            await asyncio.sleep(0.2)


class Victim:
    """The other workspace, which does what it always does."""

    def __init__(self, remote: Remote, document_id: str) -> None:
        self._remote = remote
        self._calls: dict[str, tuple[str, str, Callable[[], dict[str, object]]]] = {
            "GET workspace": ("GET", "/v1/workspace", dict),
            "POST search": ("POST", "/v1/search", lambda: {"json": {"query": "kettles", "mode": "lexical"}}),
            "POST document": ("POST", "/v1/documents", lambda: {"data": form(b"Kettles boil water.")}),
            "GET content": ("GET", f"/v1/documents/{document_id}/content", dict),
        }

    async def measure(self) -> tuple[dict[str, float], int]:
        """Return the p95 of each call in milliseconds, and how many were refused."""
        took: dict[str, list[float]] = defaultdict(list)
        refused = 0
        for _ in range(ROUNDS):
            for name, (method, path, options) in self._calls.items():
                started = time.perf_counter()
                url = f"{self._remote.url}{path}"
                async with self._remote.session.request(
                    method,
                    url,
                    headers=self._remote.headers,
                    **options(),  # type: ignore[arg-type]
                ) as response:
                    await response.read()
                    refused += response.status >= 400
                took[name].append((time.perf_counter() - started) * 1000)
        return {name: statistics.quantiles(times, n=20)[-1] for name, times in took.items()}, refused


@asynccontextmanager
async def attacking(attack: Attack) -> AsyncIterator[None]:
    attack.start()
    try:
        await asyncio.sleep(WARM_UP_S)
        yield
    finally:
        await attack.stop()


async def test_500_hostile_connections_do_not_slow_down_another_workspace(
    settings: Settings, bench_table: BenchTable
) -> None:
    async with serving(settings) as process, aiohttp.ClientSession() as session:
        url = await process.started()
        hostile, other = await Remote.make(session, url, settings), await Remote.make(session, url, settings)
        large = await hostile.upload(form(bytes(30 * MIB), filename="large.bin"))
        victim = Victim(other, (await other.upload(form(b"Kettles boil water.")))["id"])
        await victim.measure()
        calm, refused_calm = await victim.measure()
        before = process.peak_memory_bytes()
        host, port = url.removeprefix("http://").split(":")
        attack = Attack(hostile, host, int(port), large["id"])
        async with attacking(attack):
            attacked, refused = await victim.measure()
        grown_mib = (process.peak_memory_bytes() - before) / MIB
    for name, p95_ms in attacked.items():
        goal = ratio_at_most(HIGHEST_RATIO)
        bench_table.add(f"{name}: p95 under attack", p95_ms, "ms", peer=("calm", calm[name]), goal=goal)
    bench_table.add("refused under attack", refused + refused_calm, "", goal=at_most(0))
    bench_table.add("memory under attack", grown_mib, "MiB", goal=at_most(HIGHEST_GROWTH_MIB))
    bench_table.add("hostile connections opened", attack.opened, "")
    bench_table.check()

"""Slow clients are disconnected, idle ones are not, and the number of connections is limited."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
import orjson
import pytest
import structlog
from aiohttp import web

from ragsvc.http.app import create_app
from ragsvc.http.limits.connections import MIN_BYTES_PER_S, Connections
from tests.http.support.documents import form
from tests.support.polling import until
from tests.support.remote import Remote

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.settings.settings import Settings

TIMEOUT_S = 2.0
DEADLINE_S = 30.0
LIMIT = 40
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Site:
    """The application, served with connection limits like `ragsvc serve`."""

    connections: Connections
    host: str
    port: int
    remote: Remote

    async def open(self, sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect and send bytes."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(sent)
        return reader, writer

    def head(self, line: str, *headers: str) -> bytes:
        """Return the head of an authenticated request."""
        key = f"Authorization: Bearer {self.remote.key}"
        return "\r\n".join([f"{line} HTTP/1.1", "Host: x", key, *headers, "", ""]).encode()


@asynccontextmanager
async def serving(settings: Settings, *, limit: int = LIMIT) -> AsyncIterator[Site]:
    runner = web.AppRunner(create_app(settings), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    connections = Connections(limit=limit, timeout_s=TIMEOUT_S)
    assert runner.server is not None
    server = await connections.listen(runner.server, host="127.0.0.1", port=0, reuse_port=False, backlog=100)
    host, port = server.sockets[0].getsockname()
    try:
        async with aiohttp.ClientSession() as session, connections.watch():
            yield Site(connections, host, port, await Remote.make(session, f"http://{host}:{port}", settings))
    finally:
        server.close()
        await runner.cleanup()


@pytest.fixture(scope="module")
async def site(settings: Settings) -> AsyncIterator[Site]:
    async with serving(settings) as opened:
        yield opened


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    """Wait until the server closes the connection; return the bytes received before that."""
    received = b""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while block := await reader.read(65_536):
                received += block
    except ConnectionError:
        pass
    return received


async def trickle(writer: asyncio.StreamWriter, block: bytes, *, pause_s: float) -> None:
    """Send the block repeatedly until the connection is closed."""
    try:
        while True:
            writer.write(block)
            await writer.drain()
            await asyncio.sleep(pause_s)
    except ConnectionError:
        pass


@pytest.mark.parametrize("sent", [b"", b"GET /v1/wor", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_a_client_that_does_not_finish_its_head_is_disconnected(site: Site, sent: bytes) -> None:
    reader, writer = await site.open(sent)
    assert await read_to_end(reader) == b""
    writer.close()


async def test_a_client_that_sends_its_head_byte_by_byte_is_disconnected(site: Site) -> None:
    reader, writer = await site.open(b"GET / HTTP/1.1\r\nX-Slow: ")
    sending = asyncio.create_task(trickle(writer, b"x", pause_s=0.1))
    assert await read_to_end(reader) == b""
    await sending


async def test_an_idle_client_remains_connected_between_requests(site: Site) -> None:
    reader, writer = await site.open(site.head("GET /healthz"))
    assert (await asyncio.wait_for(reader.readuntil(b"}"), DEADLINE_S)).startswith(b"HTTP/1.1 200")
    # Longer than the time limit for receiving a head.
    await asyncio.sleep(TIMEOUT_S * 1.5)
    writer.write(site.head("GET /healthz"))
    assert (await asyncio.wait_for(reader.readuntil(b"}"), DEADLINE_S)).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_an_upload_that_is_too_slow_is_disconnected(site: Site) -> None:
    boundary = "Content-Type: multipart/form-data; boundary=b"
    reader, writer = await site.open(site.head("POST /v1/documents", boundary, "Content-Length: 1000000"))
    writer.write(b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n')
    sending = asyncio.create_task(trickle(writer, b"x", pause_s=0.1))
    with structlog.testing.capture_logs() as logs:
        assert await read_to_end(reader) == b""
        await until(lambda: any(entry["event"] == "request_finished" for entry in logs))
    await sending
    assert [entry["waited_for"] for entry in logs if entry["event"] == "slow_client_cut"] == ["body"]
    assert [entry for entry in logs if entry["log_level"] == "error"] == []


async def test_a_slow_but_steady_upload_succeeds(site: Site) -> None:
    block = bytes(int(MIN_BYTES_PER_S * TIMEOUT_S))

    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(6):
            yield block
            await asyncio.sleep(TIMEOUT_S / 4)

    writer = aiohttp.MultipartWriter("form-data")
    writer.append(blocks()).set_content_disposition("form-data", name="file", filename="steady.txt")
    assert (await site.remote.upload(writer))["size_bytes"] == 6 * len(block)


async def test_a_slow_but_steady_reader_remains_connected(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ragsvc.http.limits.connections.READER_PATIENCE", 2)
    document = await site.remote.upload(form(bytes(30 * MIB), filename="large.bin"))
    loop = asyncio.get_running_loop()
    with structlog.testing.capture_logs() as logs, socket.create_connection((site.host, site.port)) as client:
        client.settimeout(0)
        await loop.sock_sendall(client, site.head(f"GET /v1/documents/{document['id']}/content"))
        received = 0
        # The systems' buffers take megabytes, so the server's own buffer does not change for seconds, and what they
        # have taken arrives even after a disconnect.
        while received < 1_200_000:
            received += len(await asyncio.wait_for(loop.sock_recv(client, 20_000), DEADLINE_S))
            await asyncio.sleep(0.1)
        assert "slow_client_cut" not in [entry["event"] for entry in logs]


async def test_a_client_that_does_not_read_is_disconnected(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ragsvc.http.limits.connections.READER_PATIENCE", 1)
    document = await site.remote.upload(form(bytes(30 * MIB), filename="large.bin"))
    before = len(site.connections)
    with structlog.testing.capture_logs() as logs:
        # asyncio's StreamReader buffers little: a client that does not read takes little more than the sockets hold.
        _reader, writer = await site.open(site.head(f"GET /v1/documents/{document['id']}/content"))
        await until(
            lambda: "reader" in [entry.get("waited_for") for entry in logs], timeout_s=DEADLINE_S, what="the disconnect"
        )
        await until(lambda: len(site.connections) == before)
        writer.transport.abort()
    assert [entry["waited_for"] for entry in logs if entry["event"] == "slow_client_cut"] == ["reader"]


async def test_at_the_limit_the_longest_idle_connection_is_closed(settings: Settings) -> None:
    async with serving(settings, limit=5) as site:
        idle = [await site.open(site.head("GET /healthz")) for _ in range(5 - len(site.connections))]
        for reader, _ in idle:
            assert (await asyncio.wait_for(reader.readuntil(b"}"), DEADLINE_S)).startswith(b"HTTP/1.1 200")
        await until(lambda: len(site.connections) == 5)
        await until(lambda: all(one.is_idle for one in site.connections._open))
        # The client's own connection has been idle for longest, so it is closed first.
        for closed in (None, *idle):
            reader, writer = await site.open(site.head("GET /healthz"))
            assert (await asyncio.wait_for(reader.readuntil(b"}"), DEADLINE_S)).startswith(b"HTTP/1.1 200")
            await until(lambda: len(site.connections) == 5)
            if closed is not None:
                assert await read_to_end(closed[0]) == b""
                closed[1].close()
            idle.append((reader, writer))
        for _, writer in idle:
            writer.close()


async def test_an_idle_connection_ends(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ragsvc.http.limits.connections.KEEP_ALIVE_S", 0.1)
    async with serving(settings) as site:
        reader, writer = await site.open(site.head("GET /healthz"))
        assert (await read_to_end(reader)).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_a_connection_over_the_limit_is_refused_if_none_is_idle(settings: Settings) -> None:
    async with serving(settings, limit=5) as site:
        json = ("Content-Type: application/json", "Content-Length: 2")
        held = [await site.open(site.head("POST /v1/search", *json)) for _ in range(5)]
        await until(lambda: not any(one.is_idle for one in site.connections._open))
        reader, writer = await site.open()
        head, _, body = (await read_to_end(reader)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"Retry-After: " in head
        assert orjson.loads(body)["code"] == "overloaded"
        writer.close()
        for reader, writer in held:
            writer.write(b"{}")
            assert (await asyncio.wait_for(reader.readuntil(b"}"), DEADLINE_S)).startswith(b"HTTP/1.1 422")
            writer.close()
        await until(lambda: len(site.connections) < 5)
        async with site.remote.session.get(f"{site.remote.url}/healthz") as response:
            assert response.status == 200


@pytest.mark.parametrize(
    ("sent", "detail"),
    [
        (b"SECRET\x00\x01\r\n\r\n", b"This is not a valid HTTP/1.1 request."),
        (b"GET /SECRET HTTP/9.9.9\r\n\r\n", b"This is not a valid HTTP/1.1 request."),
        (b"GET / HTTP/1.1\r\nContent-Length: SECRET\r\n\r\n", b"This is not a valid HTTP/1.1 request."),
        (b"GET / HTTP/1.1\r\nX: SECRET" + b"x" * 9000 + b"\r\n\r\n", b"A line of the request's head is longer than"),
        (b"GET /SECRET" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", b"A line of the request's head is longer than"),
    ],
)
async def test_invalid_http_gets_a_400_that_does_not_quote_it(site: Site, sent: bytes, detail: bytes) -> None:
    reader, writer = await site.open(sent)
    with structlog.testing.capture_logs() as logs:
        head, _, body = (await read_to_end(reader)).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"Server:" not in head
    assert orjson.loads(body)["code"] == "bad_request"
    assert detail in body
    assert b"SECRET" not in body
    assert "SECRET" not in str(logs)
    assert [entry["event"] for entry in logs if entry["event"] == "request_malformed"] == ["request_malformed"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("arrival", ["with its head", "later"])
async def test_a_body_that_does_not_match_its_encoding_gets_a_400_and_logs_no_error(
    site: Site, caplog: pytest.LogCaptureFixture, encoding: str, arrival: str
) -> None:
    body = b"\xff\xff\xff\xff not compressed data"
    head = site.head("POST /v1/search", *encoded(encoding, body))
    reader, writer = await site.open(head + body if arrival == "with its head" else head)
    if arrival == "later":
        await until(lambda: any(one._request is not None for one in site.connections._open))
        writer.write(body)
    response = await read_to_end(reader)
    writer.close()
    assert response.startswith(b"HTTP/1.1 400 ")
    assert orjson.loads(response.partition(b"\r\n\r\n")[2])["detail"] == (
        "The body does not match its Content-Encoding."
    )
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("encoding", ["br", "zstd"])
async def test_an_unsupported_encoding_gets_a_415(site: Site, encoding: str) -> None:
    reader, writer = await site.open(site.head("POST /v1/search", *encoded(encoding, b"xx")))
    response = await read_to_end(reader)
    writer.close()
    assert response.startswith(b"HTTP/1.1 415 ")
    problem = orjson.loads(response.partition(b"\r\n\r\n")[2])
    assert (problem["code"], "gzip or deflate" in problem["detail"]) == ("unsupported_media_type", True)


def encoded(encoding: str, body: bytes) -> tuple[str, ...]:
    """Return the headers for a JSON body with this content encoding."""
    return ("Content-Type: application/json", f"Content-Encoding: {encoding}", f"Content-Length: {len(body)}")


async def test_no_closed_connection_remains_registered(site: Site) -> None:
    """Must run last, after connections have been closed in every possible way."""
    await until(lambda: len(site.connections) <= 1, timeout_s=DEADLINE_S)
    # The client's own keep-alive connection can remain.
    async with site.remote.session.get(f"{site.remote.url}/healthz") as response:
        assert response.status == 200
    assert len(site.connections) == 1

"""Clients that keep a process waiting are cut, those that are merely quiet are not, and there are never too many."""

from __future__ import annotations

import asyncio
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
class Gate:
    """The application behind its connections, as `ragsvc serve` has it."""

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
        """Return a request's head, authenticated."""
        key = f"Authorization: Bearer {self.remote.key}"
        return "\r\n".join([f"{line} HTTP/1.1", "Host: x", key, *headers, "", ""]).encode()


@asynccontextmanager
async def gated(settings: Settings, *, limit: int = LIMIT) -> AsyncIterator[Gate]:
    runner = web.AppRunner(create_app(settings), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    connections = Connections(limit=limit, timeout_s=TIMEOUT_S)
    assert runner.server is not None
    server = await connections.listen(runner.server, host="127.0.0.1", port=0, reuse_port=False, backlog=100)
    host, port = server.sockets[0].getsockname()
    try:
        async with aiohttp.ClientSession() as session, connections.watch():
            yield Gate(connections, host, port, await Remote.make(session, f"http://{host}:{port}", settings))
    finally:
        server.close()
        await runner.cleanup()


@pytest.fixture(scope="module")
async def gate(settings: Settings) -> AsyncIterator[Gate]:
    async with gated(settings) as opened:
        yield opened


async def is_cut(reader: asyncio.StreamReader) -> bytes:
    """Return what was said before the end."""
    said = b""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while block := await reader.read(65_536):
                said += block
    except ConnectionError:
        pass
    return said


async def trickle(writer: asyncio.StreamWriter, block: bytes, *, pause_s: float) -> None:
    """Send for ever."""
    try:
        while True:
            writer.write(block)
            await writer.drain()
            await asyncio.sleep(pause_s)
    except ConnectionError:
        pass


@pytest.mark.parametrize("sent", [b"", b"GET /v1/wor", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_a_client_that_does_not_finish_its_head_is_cut(gate: Gate, sent: bytes) -> None:
    reader, writer = await gate.open(sent)
    assert await is_cut(reader) == b""
    writer.close()


async def test_a_head_that_comes_byte_by_byte_is_cut(gate: Gate) -> None:
    reader, writer = await gate.open(b"GET / HTTP/1.1\r\nX-Slow: ")
    sending = asyncio.create_task(trickle(writer, b"x", pause_s=0.1))
    assert await is_cut(reader) == b""
    await sending


async def test_a_client_may_be_quiet_between_requests(gate: Gate) -> None:
    reader, writer = await gate.open(gate.head("GET /healthz"))
    assert (await asyncio.wait_for(reader.readuntil(b"}"), DEADLINE_S)).startswith(b"HTTP/1.1 200")
    # Longer than a head may take.
    await asyncio.sleep(TIMEOUT_S * 1.5)
    writer.write(gate.head("GET /healthz"))
    assert (await asyncio.wait_for(reader.readuntil(b"}"), DEADLINE_S)).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_a_file_that_gets_nowhere_is_cut(gate: Gate) -> None:
    boundary = "Content-Type: multipart/form-data; boundary=b"
    reader, writer = await gate.open(gate.head("POST /v1/documents", boundary, "Content-Length: 1000000"))
    writer.write(b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n')
    sending = asyncio.create_task(trickle(writer, b"x", pause_s=0.1))
    with structlog.testing.capture_logs() as logs:
        assert await is_cut(reader) == b""
        await until(lambda: any(entry["event"] == "request_finished" for entry in logs))
    await sending
    assert [entry["waited_for"] for entry in logs if entry["event"] == "slow_client_cut"] == ["body"]
    assert [entry for entry in logs if entry["log_level"] == "error"] == []


async def test_a_file_that_comes_slowly_and_steadily_arrives(gate: Gate) -> None:
    block = bytes(int(MIN_BYTES_PER_S * TIMEOUT_S))

    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(6):
            yield block
            await asyncio.sleep(TIMEOUT_S / 4)

    writer = aiohttp.MultipartWriter("form-data")
    writer.append(blocks()).set_content_disposition("form-data", name="file", filename="steady.txt")
    assert (await gate.remote.upload(writer))["size_bytes"] == 6 * len(block)


async def test_a_reader_that_takes_nothing_is_cut(gate: Gate) -> None:
    document = await gate.remote.upload(form(bytes(30 * MIB), filename="large.bin"))
    before = len(gate.connections)
    with structlog.testing.capture_logs() as logs:
        # A stream's buffer is small, so without a read the client takes little more than the system holds for it.
        _reader, writer = await gate.open(gate.head(f"GET /v1/documents/{document['id']}/content"))
        await until(
            lambda: "reader" in [entry.get("waited_for") for entry in logs], timeout_s=DEADLINE_S, what="the cut"
        )
        await until(lambda: len(gate.connections) == before)
        writer.transport.abort()
    assert [entry["waited_for"] for entry in logs if entry["event"] == "slow_client_cut"] == ["reader"]


async def test_one_connection_too_many_is_refused_and_the_others_are_served(settings: Settings) -> None:
    async with gated(settings, limit=5) as gate:
        held = [await gate.open(gate.head("GET /healthz")) for _ in range(5 - len(gate.connections))]
        await until(lambda: len(gate.connections) == 5)
        reader, writer = await gate.open()
        head, _, body = (await is_cut(reader)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"Retry-After: " in head
        assert orjson.loads(body)["code"] == "overloaded"
        writer.close()
        for reader, writer in held:
            assert (await asyncio.wait_for(reader.readuntil(b"}"), DEADLINE_S)).startswith(b"HTTP/1.1 200")
            writer.close()
        await until(lambda: len(gate.connections) < 5)
        async with gate.remote.session.get(f"{gate.remote.url}/healthz") as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"SECRET\x00\x01\r\n\r\n", b"This is not a valid HTTP/1.1 request."),
        (b"GET /SECRET HTTP/9.9.9\r\n\r\n", b"This is not a valid HTTP/1.1 request."),
        (b"GET / HTTP/1.1\r\nContent-Length: SECRET\r\n\r\n", b"This is not a valid HTTP/1.1 request."),
        (b"GET / HTTP/1.1\r\nX: SECRET" + b"x" * 9000 + b"\r\n\r\n", b"A line of the request's head is longer than"),
        (b"GET /SECRET" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", b"A line of the request's head is longer than"),
    ],
)
async def test_what_is_no_http_is_answered_without_a_banner_and_without_what_came(
    gate: Gate, sent: bytes, said: bytes
) -> None:
    reader, writer = await gate.open(sent)
    with structlog.testing.capture_logs() as logs:
        head, _, body = (await is_cut(reader)).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"Server:" not in head
    assert orjson.loads(body)["code"] == "bad_request"
    assert said in body
    assert b"SECRET" not in body
    assert "SECRET" not in str(logs)
    assert [entry["event"] for entry in logs if entry["event"] == "request_malformed"] == ["request_malformed"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("comes", ["with its head", "later"])
async def test_a_body_that_is_not_encoded_as_it_says_is_told_so_and_is_no_error_of_ours(
    gate: Gate, caplog: pytest.LogCaptureFixture, encoding: str, comes: str
) -> None:
    body = b"\xff\xff\xff\xff nothing that a packer wrote"
    head = gate.head("POST /v1/search", *encoded(encoding, body))
    reader, writer = await gate.open(head + body if comes == "with its head" else head)
    if comes == "later":
        await until(lambda: any(one._request is not None for one in gate.connections._open))
        writer.write(body)
    answer = await is_cut(reader)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert orjson.loads(answer.partition(b"\r\n\r\n")[2])["detail"] == (
        "The body is not encoded as its Content-Encoding says."
    )
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("encoding", ["br", "zstd"])
async def test_an_encoding_that_is_not_read_is_refused_in_clear_words(gate: Gate, encoding: str) -> None:
    reader, writer = await gate.open(gate.head("POST /v1/search", *encoded(encoding, b"xx")))
    answer = await is_cut(reader)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 415 ")
    problem = orjson.loads(answer.partition(b"\r\n\r\n")[2])
    assert (problem["code"], "gzip or deflate" in problem["detail"]) == ("unsupported_media_type", True)


def encoded(encoding: str, body: bytes) -> tuple[str, ...]:
    """Return the headers of a JSON body in an encoding."""
    return ("Content-Type: application/json", f"Content-Encoding: {encoding}", f"Content-Length: {len(body)}")


async def test_no_connection_is_forgotten(gate: Gate) -> None:
    """Comes last: by now every kind of end was there."""
    await until(lambda: len(gate.connections) <= 1, timeout_s=DEADLINE_S)
    # The one that may be left is the client's own, which it keeps.
    async with gate.remote.session.get(f"{gate.remote.url}/healthz") as answer:
        assert answer.status == 200
    assert len(gate.connections) == 1

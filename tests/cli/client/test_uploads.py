"""A large file reaches the service over an unreliable connection, and its upload resumes."""

from __future__ import annotations

import hashlib
import io
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import stamina
from aiohttp import web

from ragsvc.cli.client.http import Client, open_client
from ragsvc.cli.client.target import Target
from ragsvc.cli.client.uploads import send_document
from ragsvc.cli.exits import CommandFailed, Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.cli.conftest import Service

pytestmark = pytest.mark.xdist_group("cli-service")

PART = 8 * 1024 * 1024
SIZE = 3 * PART + 17


class BadLine:
    """A proxy in front of the service that drops or refuses requests on demand and records which parts arrived."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.url = ""
        self.fails: set[int] = set()
        self.is_down_after: int | None = None
        self.parts: list[int] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[BadLine]:
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._pass)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        number = int(request.path.rpartition("/")[2]) if "/parts/" in request.path else None
        if self.is_down_after is not None and len(self.parts) >= self.is_down_after:
            return self._drop(request)
        body = await request.read()
        if number in self.fails:
            self.fails.remove(number)
            return self._drop(request)
        headers = {name: value for name, value in request.headers.items() if name not in {"Host", "Content-Length"}}
        url = f"{self.service.url}{request.path_qs}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, url, data=io.BytesIO(body) if body else None, headers=headers) as answer,
        ):
            said = await answer.read()
        if number is not None:
            self.parts.append(number)
        return web.Response(body=said, status=answer.status, content_type=answer.content_type)

    def _drop(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()


@pytest.fixture
async def line(service: Service) -> AsyncIterator[BadLine]:
    async with BadLine(service).open() as opened:
        yield opened


@pytest.fixture
async def client(line: BadLine, tenant: dict[str, str]) -> AsyncIterator[Client]:
    async with open_client(Target(line.url, tenant["key"], None)) as opened:
        yield opened


def fill(path: Path, *, seed: int) -> str:
    """Write a file and return its sha256."""
    content = random.Random(seed).randbytes(SIZE)  # noqa: S311
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def big(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = tmp_path / "big.bin"
    fill(path, seed=7)
    return path


async def send(client: Client, path: Path, **fields: Any) -> tuple[Any, list[int]]:
    sent: list[int] = []
    options = {"collection_id": None, "attributes": None, **fields}
    return await send_document(client, path, on_sent=sent.append, **options), sent


async def stored_sha256(service: Service, tenant: dict[str, str], document: Any) -> str:
    headers = {"Authorization": f"Bearer {tenant['key']}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{service.url}/v1/documents/{document['id']}/content") as answer,
    ):
        return hashlib.sha256(await answer.read()).hexdigest()


async def test_a_dropped_connection_costs_only_its_part(
    client: Client, line: BadLine, service: Service, tenant: dict[str, str], big: Path
) -> None:
    line.fails = {1, 3}
    document, sent = await send(client, big)
    assert sorted(line.parts) == [1, 2, 3, 4]
    assert sent == sorted(sent)
    assert sent[-1] == SIZE
    assert await stored_sha256(service, tenant, document) == fill(big, seed=7)


async def test_a_later_run_of_the_same_command_sends_only_missing_parts(
    client: Client, line: BadLine, service: Service, tenant: dict[str, str], big: Path
) -> None:
    line.is_down_after = 2
    with stamina.set_testing(True, attempts=1), pytest.raises(Unreachable):
        await send(client, big)
    arrived, line.parts, line.is_down_after = set(line.parts), [], None
    assert arrived
    document, sent = await send(client, big)
    assert set(line.parts) == {1, 2, 3, 4} - arrived
    assert sent[0] >= PART
    assert await stored_sha256(service, tenant, document) == fill(big, seed=7)


async def test_other_content_or_another_collection_is_another_upload(client: Client, line: BadLine, big: Path) -> None:
    line.is_down_after = 1
    with stamina.set_testing(True, attempts=1), pytest.raises(Unreachable):
        await send(client, big)
    line.parts, line.is_down_after = [], None
    await send(client, big, attributes={"year": 2026})
    assert sorted(line.parts) == [1, 2, 3, 4]
    line.parts = []
    fill(big, seed=8)
    await send(client, big)
    assert sorted(line.parts) == [1, 2, 3, 4]


async def test_a_closed_session_is_replaced(client: Client, line: BadLine, tenant: dict[str, str], big: Path) -> None:
    line.is_down_after = 1
    with stamina.set_testing(True, attempts=1), pytest.raises(Unreachable):
        await send(client, big)
    line.parts, line.is_down_after = [], None
    (upload,) = (await client.get("/v1/uploads"))["data"]
    await client.delete(f"/v1/uploads/{upload['id']}")
    document, _ = await send(client, big)
    assert document["size_bytes"] == SIZE
    assert tenant["id"]


async def test_a_refused_part_ends_the_upload_with_the_reason(
    client: Client, tenant: dict[str, str], big: Path
) -> None:
    assert tenant["id"]
    with pytest.raises(CommandFailed, match="not_found"):
        await send(client, big, collection_id="col_" + "0" * 32)

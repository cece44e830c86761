"""Responses that wait for their readers take a bounded share of the memory, and block no other workspace."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

from ragsvc.domain.workspaces import Scope
from ragsvc.http.app import create_app
from ragsvc.http.contract.operations import Media, operation
from ragsvc.http.limits.sending import BLOCK_BYTES, SENDING
from tests.http.conftest import TIMING, Api, Tenant, make_tenant, operator_of
from tests.http.support.documents import form
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ragsvc.settings.settings import Settings
    from ragsvc.shares import Shares
    from tests.http.conftest import Client

MIB = 1024 * 1024
LARGE = bytes(20 * MIB)


@operation("Send", Scope.READ, responses={200: Media("application/octet-stream", "Bytes.")})
async def send_large(_request: web.Request) -> web.Response:
    """Respond with bytes that the sockets' buffers do not take."""
    return web.Response(body=LARGE)


@pytest.fixture
async def small(settings: Settings, serve: Callable[..., Awaitable[Client]]) -> Client:
    """An application with memory for four files at a time."""
    app = create_app(settings.changed({"send_buffer_bytes": MIB}), timing=TIMING)
    app.router.add_get("/v1/large", send_large)
    return await serve(app)


@pytest.fixture
async def tenants(small: Client) -> tuple[Tenant, Tenant]:
    """Two workspaces."""
    admin = operator_of(small)
    return await make_tenant(small, admin, "acme"), await make_tenant(small, admin, "globex")


@asynccontextmanager
async def unread(api: Api, path: str) -> AsyncIterator[None]:
    """Ask for a response and do not read it."""
    reader, writer = await asyncio.open_connection(api.client.host, api.client.port, limit=1024)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.key}\r\n\r\n".encode())
    try:
        await reader.readuntil(b"\r\n\r\n")
        yield
    finally:
        writer.transport.abort()


def sending_of(client: Client) -> Shares:
    return client.app[SENDING]


async def test_unread_files_of_one_workspace_do_not_block_another(
    small: Client, tenants: tuple[Tenant, Tenant], monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, other = tenants
    large = await busy.upload(LARGE, filename="large.bin")
    path = f"/v1/documents/{large['id']}/content"
    document = await other.upload()
    sending = sending_of(small)
    monkeypatch.setattr(sending, "_max_wait_s", 0.1)
    async with unread(busy.api, path), unread(busy.api, path), unread(busy.api, path):
        assert sending.held_by(busy.uuid) == 3 * BLOCK_BYTES
        assert (await busy.api.get(path)).is_problem(503, "overloaded")
        assert (await other.api.get(f"/v1/documents/{document['id']}/content")).status == 200
        # Neither uploads nor the readiness probe need what the downloads hold.
        assert (await other.api.call("POST", "/v1/documents", data=form(b"more"))).status == 202
        assert (await Api(small, None).get("/readyz")).status == 200
    await until(lambda: sending.free == sending.capacity)
    assert (await busy.api.get(path, headers={"Range": "bytes=0-9"})).status == 206


async def test_a_large_response_counts_until_its_reader_has_taken_it(
    small: Client, tenants: tuple[Tenant, Tenant]
) -> None:
    busy, other = tenants
    sending = sending_of(small)
    async with unread(busy.api, "/v1/large"):
        # It is larger than the memory for all responses, so it counts as all of it.
        assert sending.free == 0
        assert (await other.api.get("/v1/large")).is_problem(503, "overloaded")
        assert (await other.api.get("/v1/workspace")).status == 200
    await until(lambda: sending.free == sending.capacity)
    assert (await other.api.get("/v1/large")).raw == LARGE


async def test_a_reader_that_disconnects_frees_its_memory(small: Client, tenants: tuple[Tenant, Tenant]) -> None:
    busy, _ = tenants
    document = await busy.upload(LARGE, filename="large.bin")
    async with (
        aiohttp.ClientSession() as session,
        session.get(small.make_url(f"/v1/documents/{document['id']}/content"), headers=busy.api.headers) as response,
    ):
        assert response.status == 200
        assert sending_of(small).held_by(busy.uuid) == BLOCK_BYTES
    await until(lambda: sending_of(small).free == sending_of(small).capacity)


async def test_one_workspace_does_not_get_all_connections(
    settings: Settings, serve: Callable[..., Awaitable[Client]]
) -> None:
    client = await serve(create_app(settings.changed({"max_connections": 4}), timing=TIMING))
    admin = operator_of(client)
    busy, other = await make_tenant(client, admin, "acme"), await make_tenant(client, admin, "globex")
    waiting = []
    for _ in range(3):
        _reader, writer = await asyncio.open_connection(client.host, client.port)
        head = f"POST /v1/search HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {busy.api.key}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 9\r\n\r\n".encode())
        waiting.append(writer)

    async def is_refused() -> bool:
        return (await busy.api.get("/v1/workspace")).status == 503

    await until(is_refused, what="the connections to count")
    assert (await busy.api.get("/v1/workspace")).is_problem(503, "overloaded")
    assert (await other.api.get("/v1/workspace")).status == 200
    for writer in waiting:
        writer.close()

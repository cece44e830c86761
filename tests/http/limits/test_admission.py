"""A process refuses requests beyond its capacity, and a request that is waiting for its client uses no slot."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from ragsvc.http.app import create_app
from ragsvc.http.auth import Access
from ragsvc.http.contract.operations import operation
from ragsvc.http.limits.admission import ADMISSION, BODIES_AT_ONCE
from ragsvc.shares import LARGEST_SHARE
from ragsvc.telemetry.metrics import REGISTRY
from tests.http.conftest import TIMING, Api, Tenant, make_tenant, operator_of
from tests.support.polling import until
from tests.support.remote import SlowFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ragsvc.settings.settings import Settings
    from tests.http.conftest import Client

GATE = web.AppKey("gate", asyncio.Event)
DEADLINE_S = 10.0


@operation("Wait", Access.PUBLIC, responses={200: None})
async def wait(request: web.Request) -> web.Response:
    """Respond once the test opens the gate."""
    await request.app[GATE].wait()
    return web.Response()


@pytest.fixture
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests wait at most one second for a slot."""
    monkeypatch.setattr("ragsvc.http.limits.admission.MAX_WAIT_S", 1.0)


@pytest.fixture
async def small(settings: Settings, serve: Callable[..., Awaitable[Client]]) -> AsyncIterator[Client]:
    """An application with two slots, and routes that wait for the gate."""
    app = create_app(settings.changed({"max_requests": 2, "request_timeout_s": 60}), timing=TIMING)
    app.router.add_get("/wait", wait)
    app.router.add_get("/wait-too", wait)
    app[GATE] = asyncio.Event()
    client = await serve(app)
    yield client
    app[GATE].set()


def used_slots(client: Client) -> int:
    return client.app[ADMISSION].slots.used


async def fill(client: Client) -> list[asyncio.Task[Any]]:
    """Occupy both slots."""
    tasks = [asyncio.create_task(Api(client, None).get(path)) for path in ("/wait", "/wait-too")]
    await until(lambda: used_slots(client) == 2)
    return tasks


@pytest.mark.usefixtures("short_wait")
async def test_a_request_that_gets_no_slot_is_refused_with_a_retry_after_header(small: Client) -> None:
    admin = operator_of(small)
    before = REGISTRY.get_sample_value("ragsvc_requests_refused_total", {"code": "overloaded"}) or 0
    tasks = await fill(small)
    refused = await admin.get("/v1/workspaces")
    assert refused.is_problem(503, "overloaded")
    assert int(refused.headers["Retry-After"]) > 0
    assert REGISTRY.get_sample_value("ragsvc_requests_refused_total", {"code": "overloaded"}) == before + 1
    # Health checks work without a slot.
    for probe in ("/healthz", "/readyz", "/metrics"):
        assert (await Api(small, None).get(probe)).status == 200
    small.app[GATE].set()
    assert [response.status for response in await asyncio.gather(*tasks)] == [200, 200]
    assert (await admin.get("/v1/workspaces")).status == 200
    assert used_slots(small) == 0


async def test_a_waiting_request_is_handled_once_a_slot_is_free(small: Client) -> None:
    tasks = await fill(small)
    waiting = asyncio.create_task(Api(small, None).get("/openapi.json"))
    await until(lambda: small.app[ADMISSION].slots.waiting == 1)
    small.app[GATE].set()
    assert (await waiting).status == 200
    await asyncio.gather(*tasks)


async def test_a_stream_uses_no_slot(small: Client) -> None:
    tenant = await make_tenant(small, operator_of(small), "acme")
    document = await tenant.upload()
    path = f"/v1/documents/{document['id']}/events"
    async with small.get(path, headers=tenant.api.headers) as stream:
        await asyncio.wait_for(stream.content.readuntil(b"\n\n"), DEADLINE_S)
        assert used_slots(small) == 0


async def test_a_file_upload_uses_no_slot(small: Client) -> None:
    tenant = await make_tenant(small, operator_of(small), "acme")
    slow = SlowFile()
    uploading = asyncio.create_task(tenant.api.call("POST", "/v1/documents", data=slow.form()))
    await asyncio.wait_for(slow.begun.wait(), DEADLINE_S)
    assert used_slots(small) == 0
    slow.may_end.set()
    assert (await uploading).status == 202


@pytest.mark.parametrize("trickle", [b"", b"{"])
async def test_a_stalled_body_uses_no_slot_and_gets_a_408(
    settings: Settings, serve: Callable[..., Awaitable[Client]], trickle: bytes
) -> None:
    client = await serve(create_app(settings.changed({"max_requests": 2, "client_timeout_s": 1.0})))
    tenant = await make_tenant(client, operator_of(client), "acme")
    reader, writer = await send_head(tenant, length=100)
    writer.write(trickle)
    bodies = client.app[ADMISSION].bodies
    await until(lambda: bodies.capacity - bodies.free == len(trickle))
    await until(lambda: used_slots(client) == 0)
    response = await asyncio.wait_for(reader.readuntil(b"}"), DEADLINE_S)
    assert b" 408 " in response.partition(b"\r\n")[0]
    assert b'"request_timeout"' in response
    writer.close()
    await until(lambda: bodies.free == bodies.capacity)


async def test_a_body_that_arrives_in_pieces_is_read_completely(tenant: Tenant) -> None:
    reader, writer = await send_head(tenant, length=19)
    writer.write(b'{"name": ')
    await writer.drain()
    writer.write(b'"kettles"}')
    response = await asyncio.wait_for(reader.readuntil(b"}"), DEADLINE_S)
    assert b" 201 " in response.partition(b"\r\n")[0]
    writer.close()


async def test_bodies_that_do_not_end_do_not_block_another_workspace(
    settings: Settings, serve: Callable[..., Awaitable[Client]]
) -> None:
    client = await serve(create_app(settings.changed({"max_json_body_bytes": 1024})))
    admin = operator_of(client)
    hostile, other = await make_tenant(client, admin, "acme"), await make_tenant(client, admin, "globex")
    bodies = client.app[ADMISSION].bodies
    announced = [await send_head(hostile, length=1024) for _ in range(BODIES_AT_ONCE)]
    # What was announced reserves nothing.
    assert (await other.api.post("/v1/collections", {"name": "kettles"})).status == 201
    arriving = [await send_head(hostile, length=1024) for _ in range(BODIES_AT_ONCE)]
    for _, writer in arriving:
        writer.write(b" " * 1000)
    # The slowest bodies of the hostile workspace end, and it never has more than its share.
    responses = [asyncio.create_task(reader.readuntil(b"}")) for reader, _ in arriving]
    await until(lambda: sum(one.done() for one in responses) >= BODIES_AT_ONCE * (1 - LARGEST_SHARE) - 1)
    assert all(b" 408 " in one.result() and b"too slowly" in one.result() for one in responses if one.done())
    assert bodies.held_by(hostile.uuid) <= bodies.capacity * LARGEST_SHARE
    for number in range(8):
        assert (await other.api.post("/v1/collections", {"name": f"kettles {number}"})).status == 201
    for one in responses:
        one.cancel()
    for _, writer in (*announced, *arriving):
        writer.close()
    await until(lambda: bodies.free == bodies.capacity)


async def test_a_request_that_takes_too_long_is_cancelled(
    settings: Settings, serve: Callable[..., Awaitable[Client]]
) -> None:
    app = create_app(settings.changed({"request_timeout_s": 0.2}))
    app.router.add_get("/wait", wait)
    app[GATE] = asyncio.Event()
    client = await serve(app)
    response = await Api(client, None).get("/wait")
    assert response.is_problem(503, "unavailable")
    assert used_slots(client) == 0


async def send_head(tenant: Tenant, *, length: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send the head of a request that creates a collection."""
    client = tenant.api.client
    reader, writer = await asyncio.open_connection(client.host, client.port)
    head = f"POST /v1/collections HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {tenant.api.key}\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n".encode())
    await writer.drain()
    return reader, writer

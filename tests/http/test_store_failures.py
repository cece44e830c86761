"""When a store is full, or is killed at any step, a client only needs to retry."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from ragsvc.db import upload_sessions
from ragsvc.http.state import RESOURCES
from tests.http.conftest import make_tenant, operator_of
from tests.http.support.documents import form
from tests.http.support.own_store import OwnStore
from tests.http.support.uploads import complete, content_of, open_upload, presign, put, put_to_store, state_of
from tests.http.tus import support as tus
from tests.support.servers.databases import cloned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings
    from tests.http.conftest import ApiResponse, ClientMaker, Tenant

MIB = 1024 * 1024
PART = 5 * MIB
CONTENT = content_of(2 * PART + 1000)


@pytest.fixture(scope="module")
async def store(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OwnStore]:
    root: Path = tmp_path_factory.mktemp("store")
    own = OwnStore(root)
    await own.start()
    yield own
    await own.stop()


@pytest.fixture(scope="module")
async def database_url(settings: Settings, template: str) -> AsyncIterator[SecretStr]:
    """A separate database: sweepers of other tests would find these uploads missing from their store."""
    async with cloned(settings.stores.database_url.get_secret_value(), template=template) as url:
        yield SecretStr(url)


@pytest.fixture
async def tenant(store: OwnStore, database_url: SecretStr, make_client: ClientMaker) -> Tenant:
    """A workspace in the separate store."""
    client = await make_client(
        **store.settings, database_url=database_url, upload_part_size_bytes=PART, s3_timeout_s=10.0
    )
    return await make_tenant(client, operator_of(client), "own")


def resources_of(tenant: Tenant) -> Resources:
    return tenant.api.client.app[RESOURCES]


def part_of(number: int) -> bytes:
    return CONTENT[(number - 1) * PART : number * PART]


async def reserved_bytes(tenant: Tenant) -> int:
    async with resources_of(tenant).pool.acquire() as conn:
        return await upload_sessions.sum_reserved_bytes(conn, tenant.uuid)


async def list_documents(tenant: Tenant) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = (await tenant.api.get("/v1/documents")).json["data"]
    return listed


async def assert_one_document_and_nothing_else(tenant: Tenant) -> None:
    (document,) = await list_documents(tenant)
    assert (await tenant.api.get(f"/v1/documents/{document['id']}/content")).raw == CONTENT
    assert await reserved_bytes(tenant) == 0
    storage = resources_of(tenant).storage
    assert await storage.list_multiparts(tenant.bucket) == []
    assert await storage.count_objects(tenant.bucket) == 1


async def test_a_full_store_refuses_parts_and_retains_those_already_stored(store: OwnStore, tenant: Tenant) -> None:
    upload = await open_upload(tenant.api, size_bytes=len(CONTENT))
    url = await presign(tenant.api, upload, 3)
    assert (await put(tenant.api, upload, 1, part_of(1))).status == 200
    await store.fill()
    refused = await put(tenant.api, upload, 2, part_of(2))
    assert refused.is_problem(503, "unavailable"), refused.raw
    assert refused.headers["Retry-After"]
    assert await put_to_store(url, part_of(3)) != 200
    whole = await tenant.api.call("POST", "/v1/documents", data=form(CONTENT, filename="a.txt"))
    assert whole.is_problem(503, "unavailable")
    missing = await complete(tenant.api, upload)
    assert (missing.status, missing.json["missing"]) == (409, [2, 3])
    state = await state_of(tenant.api, upload)
    assert (state["status"], state["missing"], state["received_bytes"]) == ("pending", [2, 3], PART)
    assert await reserved_bytes(tenant) == len(CONTENT)
    assert await list_documents(tenant) == []
    await store.empty()
    for number in (2, 3):
        assert (await put(tenant.api, upload, number, part_of(number))).status == 200
    # A full store may or may not join the parts; in both cases the next request completes the upload.
    await store.fill()
    joined = await complete(tenant.api, upload)
    assert joined.status == 200 or joined.is_problem(503, "unavailable"), joined.raw
    await store.empty()
    assert (await complete(tenant.api, upload)).status == 200
    assert (await state_of(tenant.api, upload))["status"] == "completed"
    await assert_one_document_and_nothing_else(tenant)


async def test_a_full_store_returns_a_correct_offset_to_a_tus_client(store: OwnStore, tenant: Tenant) -> None:
    path = await tus.create(tenant.api, len(CONTENT))
    assert (await tus.patch(tenant.api, path, 0, CONTENT[: PART + 10])).status == 204
    await store.fill()
    refused = await tus.patch(tenant.api, path, PART + 10, CONTENT[PART + 10 :])
    assert refused.is_problem(503, "unavailable"), refused.raw
    assert await tus.offset_of(tenant.api, path) == PART + 10
    assert await reserved_bytes(tenant) == len(CONTENT)
    assert resources_of(tenant).buffers.parts.free == resources_of(tenant).settings.api.upload_buffer_bytes
    await store.empty()
    assert (await tus.patch(tenant.api, path, PART + 10, CONTENT[PART + 10 :])).status == 204
    await assert_one_document_and_nothing_else(tenant)


async def test_a_store_killed_between_any_two_steps_loses_no_part(store: OwnStore, tenant: Tenant) -> None:
    async def through_a_kill(step: Callable[[], Awaitable[ApiResponse]]) -> ApiResponse:
        """Send the request while the store is down, and again after it has restarted."""
        await store.kill()
        away = await step()
        assert away.is_problem(503, "unavailable"), away.raw
        await store.start()
        return await step()

    opened = await through_a_kill(
        lambda: tenant.api.post("/v1/uploads", {"filename": "a.txt", "size_bytes": len(CONTENT)})
    )
    upload = opened.json
    for number in (3, 1):
        sent = await through_a_kill(lambda number=number: put(tenant.api, upload, number, part_of(number)))  # type: ignore[misc]
        assert sent.status == 200
    url = await presign(tenant.api, upload, 2)
    await store.kill()
    await store.start()
    assert await put_to_store(url, part_of(2)) == 200
    assert (await through_a_kill(lambda: tenant.api.get(f"/v1/uploads/{upload['id']}"))).json["missing"] == []
    done = await through_a_kill(lambda: complete(tenant.api, upload))
    assert done.status == 200, done.raw
    await store.kill()
    await store.start()
    assert (await complete(tenant.api, upload)).json["id"] == done.json["id"]
    await assert_one_document_and_nothing_else(tenant)


async def test_a_store_killed_during_a_part_loses_only_that_part(store: OwnStore, tenant: Tenant) -> None:
    upload = await open_upload(tenant.api, size_bytes=len(CONTENT))
    for number in (1, 3):
        assert (await put(tenant.api, upload, number, part_of(number))).status == 200

    half_sent, killed = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield part_of(2)[: PART // 2]
        half_sent.set()
        await killed.wait()
        yield part_of(2)[PART // 2 :]

    path, headers = f"/v1/uploads/{upload['id']}/parts/2", {"Content-Length": str(PART)}
    sending = asyncio.create_task(tenant.api.call("PUT", path, data=body(), headers=headers))
    await half_sent.wait()
    await store.kill()
    killed.set()
    cut = await sending
    assert cut.is_problem(503, "unavailable"), cut.raw
    await store.start()
    state = await state_of(tenant.api, upload)
    assert (state["status"], state["missing"]) == ("pending", [2])
    assert (await put(tenant.api, upload, 2, part_of(2))).status == 200
    assert (await complete(tenant.api, upload)).status == 200
    await assert_one_document_and_nothing_else(tenant)

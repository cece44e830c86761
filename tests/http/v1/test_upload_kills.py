"""After SIGKILL in the middle of an upload, another API process can finish the upload."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import aiohttp
import asyncpg

from ragsvc.db import upload_sessions
from ragsvc.http.contract.ids import parse_id
from tests.http.support.processes import serving
from tests.http.support.uploads import CONTENT, complete, open_upload, part_of, put, reserved_bytes, send_all, state_of
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings
    from tests.http.conftest import Tenant
    from tests.http.support.processes import ApiProcess

BEGUN_BYTES = 1024 * 1024


async def kill(process: ApiProcess) -> None:
    os.kill(process.process.pid, signal.SIGKILL)
    assert await process.exit_code() == -signal.SIGKILL


async def assert_one_document_and_nothing_else(tenant: Tenant, resources: Resources, document_id: str) -> None:
    listed = (await tenant.api.get("/v1/documents")).json["data"]
    assert [document["id"] for document in listed] == [document_id]
    assert (await tenant.api.get(f"/v1/documents/{document_id}/content")).raw == CONTENT
    assert await reserved_bytes(tenant, resources) == 0
    assert await resources.storage.count_objects(tenant.bucket) == 1
    assert await resources.storage.list_multiparts(tenant.bucket) == []


async def test_a_part_is_missing_if_the_process_is_killed_while_receiving_it(
    tenant: Tenant, resources: Resources, settings: Settings
) -> None:
    upload = await open_upload(tenant.api)
    assert (await put(tenant.api, upload, 2, part_of(CONTENT, 2))).status == 200
    begun, cut = asyncio.Event(), asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield part_of(CONTENT, 1)[:BEGUN_BYTES]
        begun.set()
        await cut.wait()

    async with serving(settings) as process, aiohttp.ClientSession(await process.started()) as session:
        headers = {**tenant.api.headers, "Content-Length": str(len(part_of(CONTENT, 1)))}
        sending = asyncio.create_task(session.put(f"/v1/uploads/{upload['id']}/parts/1", data=half(), headers=headers))
        await begun.wait()
        await kill(process)
        cut.set()
        (failure,) = await asyncio.gather(sending, return_exceptions=True)
    assert isinstance(failure, aiohttp.ClientError)
    state = await state_of(tenant.api, upload)
    assert (state["status"], state["missing"]) == ("pending", [1])
    assert await reserved_bytes(tenant, resources) == len(CONTENT)
    await send_all(tenant.api, upload)
    done = await complete(tenant.api, upload)
    assert done.status == 200, done.raw
    await assert_one_document_and_nothing_else(tenant, resources, done.json["id"])


async def test_a_process_killed_between_the_stored_object_and_its_row_leaves_one_document(
    tenant: Tenant, resources: Resources, settings: Settings
) -> None:
    upload = await open_upload(tenant.api)
    await send_all(tenant.api, upload)
    upload_id = parse_id("upl", upload["id"])
    lock = await asyncpg.connect(settings.stores.database_url.get_secret_value())
    try:
        # The completion locks the collection before it adds a row, so it waits for this lock.
        async with (
            serving(settings) as process,
            aiohttp.ClientSession(await process.started()) as session,
            lock.transaction(),
        ):
            await lock.execute("SELECT FROM collections WHERE workspace_id = $1 FOR UPDATE", tenant.uuid)
            path = f"/v1/uploads/{upload['id']}/complete"
            completing = asyncio.create_task(session.post(path, headers=tenant.api.headers))

            async def is_joined() -> bool:
                return await resources.storage.count_objects(tenant.bucket) == 1

            await until(is_joined, timeout_s=30, what="the store's file")
            await kill(process)
            (failure,) = await asyncio.gather(completing, return_exceptions=True)
    finally:
        await lock.close()
    assert isinstance(failure, aiohttp.ClientError)
    async with resources.pool.acquire() as conn:
        now = await upload_sessions.select_upload(conn, tenant.uuid, upload_id)
        assert now is not None
        assert (now.status, now.document_id) == ("completing", None)
        # As if the dead process's lease had expired.
        await upload_sessions.release_completing(conn, tenant.uuid, upload_id)
    assert (await tenant.api.get("/v1/documents")).json["data"] == []
    done = await complete(tenant.api, upload)
    assert done.status == 200, done.raw
    assert (await complete(tenant.api, upload)).json["id"] == done.json["id"]
    await assert_one_document_and_nothing_else(tenant, resources, done.json["id"])

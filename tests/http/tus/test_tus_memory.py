"""Any number of concurrent uploads stays within UPLOAD_BUFFER_BYTES, and all of them succeed."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING

import aiohttp
import pytest

from ragsvc.http.state import RESOURCES
from ragsvc.uploads import part_buffers
from tests.http.conftest import Api
from tests.http.support.documents import form
from tests.http.support.processes import serving
from tests.http.tus.support import (
    BODY,
    MIB,
    append_once_unlocked,
    assert_stored,
    checksum,
    content_of,
    create,
    offset_of,
    patch,
    sending,
    wait_for_offset,
)
from tests.support.polling import until

if TYPE_CHECKING:
    from ragsvc.settings.settings import Settings
    from tests.http.conftest import ApiResponse, ClientMaker, Tenant

PART = 5 * MIB
MANY = 32
CONTENT = content_of(PART + 1000)
# More than the reserve for small files gives to one file.
BEGUN = part_buffers.SMALL_BYTES + 1000


async def test_concurrent_requests_do_not_exceed_the_memory_budget(
    tenant: Tenant, settings: Settings, make_client: ClientMaker
) -> None:
    api = Api(await make_client(upload_part_size_bytes=PART), tenant.api.key)
    budget_mib, files = 10, [content_of(2 * PART + number) for number in range(MANY)]
    paths = [await create(api, len(content)) for content in files]
    sizes = {"UPLOAD_BUFFER_BYTES": str(budget_mib * MIB), "UPLOAD_PART_SIZE_BYTES": str(PART)}
    async with serving(settings, **sizes) as process:
        url = await process.started()
        async with aiohttp.ClientSession(url, headers={**tenant.api.headers, **BODY, "Upload-Offset": "0"}) as session:

            async def send(path: str, content: bytes) -> tuple[int, str]:
                async with session.patch(path, data=io.BytesIO(content)) as response:
                    return response.status, response.headers["Ragsvc-Document-Id"]

            warm = await create(tenant.api, 1000)
            assert (await send(warm, content_of(1000)))[0] == 204
            before = process.peak_memory_bytes()
            done = await asyncio.gather(*(send(*one) for one in zip(paths, files, strict=True)))
        grown_mib = (process.peak_memory_bytes() - before) / MIB
    assert {status for status, _ in done} == {204}
    assert len({document_id for _, document_id in done}) == MANY
    # Each connection also buffers 1 or 2 MiB. The total was measured at 65 MiB, and at 246 MiB without the budget.
    assert grown_mib < budget_mib + MANY * 2.5, grown_mib


@pytest.mark.parametrize("kind", ["plain", "checked"])
async def test_a_slow_upload_yields_its_memory_and_continues(
    tenant: Tenant, make_client: ClientMaker, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(part_buffers, "TURN_S", 0.5)
    # The budget has space for one part.
    api = Api(await make_client(upload_buffer_bytes=PART, upload_part_size_bytes=PART), tenant.api.key)
    path, rival_path = await create(api, len(CONTENT)), await create(api, len(CONTENT))
    announced = checksum("sha256", CONTENT)["Upload-Checksum"] if kind == "checked" else None
    async with sending(api, path, 0, len(CONTENT), checksum=announced) as (reader, writer):
        writer.write(CONTENT[:BEGUN])
        await until(lambda: api.client.app[RESOURCES].buffers.parts.free == 0, what="the memory of the upload")
        rival = asyncio.create_task(patch(api, rival_path, 0, CONTENT))
        sent = BEGUN
        # Bytes arrive slowly, so the upload does not count as stalled.
        while not rival.done():
            writer.write(CONTENT[sent : sent + 1])
            sent += 1
            await asyncio.wait({rival}, timeout=0.1)
        await assert_stored(api, await rival, CONTENT)
        writer.write(CONTENT[sent:])
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 204 " in head
        assert f"Upload-Offset: {len(CONTENT)}".encode() in head
    await assert_stored(api, await patch(api, path, len(CONTENT), b""), CONTENT)
    assert api.client.app[RESOURCES].buffers.parts.free == PART


async def test_a_stalled_upload_gives_up_its_memory_to_waiting_ones(
    tenant: Tenant, make_client: ClientMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_buffers, "TURN_S", 0.2)
    api = Api(await make_client(upload_buffer_bytes=PART, upload_part_size_bytes=PART), tenant.api.key)
    path, rival_path = await create(api, len(CONTENT)), await create(api, len(CONTENT))
    async with sending(api, path, 0, len(CONTENT)) as (reader, writer):
        writer.write(CONTENT[:BEGUN])
        await until(lambda: api.client.app[RESOURCES].buffers.parts.free == 0, what="the memory of the upload")
        await assert_stored(api, await patch(api, rival_path, 0, CONTENT), CONTENT)
        # The received bytes are stored and acknowledged; the client continues with its next request.
        assert b" 204 " in await reader.readline()
    await wait_for_offset(api, path, BEGUN)
    await assert_stored(api, await append_once_unlocked(api, path, CONTENT[BEGUN:], offset=BEGUN), CONTENT)


async def test_a_form_upload_that_gets_no_memory_is_refused_as_retryable(
    tenant: Tenant, make_client: ClientMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Api(await make_client(upload_buffer_bytes=PART, upload_part_size_bytes=PART), tenant.api.key)
    monkeypatch.setattr(api.client.app[RESOURCES].buffers.parts, "_max_wait_s", 0.2)
    path = await create(api, len(CONTENT))
    async with sending(api, path, 0, len(CONTENT)) as (_reader, writer):
        writer.write(CONTENT[:BEGUN])
        await until(lambda: api.client.app[RESOURCES].buffers.parts.free == 0, what="the memory of the upload")
        refused = await api.call("POST", "/v1/documents", data=form(CONTENT, filename="a.txt"))
    assert refused.is_problem(503, "overloaded")
    assert int(refused.headers["Retry-After"]) > 0
    assert (await api.get("/v1/documents")).json["data"] == []


async def test_disconnected_and_refused_uploads_free_their_memory(tenant: Tenant, make_client: ClientMaker) -> None:
    api = Api(await make_client(upload_buffer_bytes=2 * PART, upload_part_size_bytes=PART), tenant.api.key)
    buffers = api.client.app[RESOURCES].buffers
    path = await create(api, len(CONTENT))
    async with sending(api, path, 0, len(CONTENT)) as (_reader, writer):
        writer.write(CONTENT[:BEGUN])
        await until(lambda: buffers.parts.free < 2 * PART, what="the memory of the upload")
    await until(lambda: buffers.parts.free == 2 * PART, what="the freed memory")
    wrong = await append_once_unlocked(api, path, CONTENT[BEGUN:], offset=BEGUN, **checksum("md5", b"other"))
    assert wrong.is_problem(460, "upload_checksum_mismatch")
    assert await offset_of(api, path) == BEGUN
    assert buffers.parts.free == 2 * PART
    responses: list[ApiResponse] = await asyncio.gather(
        *(api.call("POST", "/v1/documents", data=form(CONTENT, filename="a.txt")) for _ in range(4))
    )
    assert {response.status for response in responses} == {202}
    assert buffers.parts.free == 2 * PART

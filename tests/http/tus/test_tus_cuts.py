"""Uploads over tus continue after a connection breaks and after a process dies or drains."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import TYPE_CHECKING

import pytest

from ragsvc.errors.requests import UploadLocked
from ragsvc.http.limits.traffic import TRAFFIC
from ragsvc.uploads.tus import writers
from tests.http.conftest import Api
from tests.http.support.processes import serving
from tests.http.tus.support import (
    LARGE,
    MIB,
    PART,
    SMALL,
    append_once_unlocked,
    assert_stored,
    checksum,
    content_of,
    create,
    offset_of,
    patch,
    row_of,
    sending,
    wait_for_offset,
    wait_until_locked,
)

if TYPE_CHECKING:
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings
    from tests.http.conftest import ClientMaker, Tenant


async def test_bytes_with_a_checksum_do_not_count_after_a_disconnect(tenant: Tenant) -> None:
    path = await create(tenant.api, len(LARGE))
    await patch(tenant.api, path, 0, LARGE[:1000])
    announced = checksum("md5", LARGE[1000:])["Upload-Checksum"]
    async with sending(tenant.api, path, 1000, len(LARGE) - 1000, checksum=announced) as (_, writer):
        writer.write(LARGE[1000 : 2 * PART])
        await writer.drain()
    again = await append_once_unlocked(tenant.api, path, LARGE[1000:], offset=1000, **checksum("md5", LARGE[1000:]))
    await assert_stored(tenant.api, again, LARGE)


async def test_every_byte_received_before_a_disconnect_counts(tenant: Tenant) -> None:
    size_bytes = PART + 300_000
    content = content_of(size_bytes)
    rng = random.Random(7)  # noqa: S311
    path = await create(tenant.api, size_bytes)
    offset = 0
    for _cut in range(12):
        end = min(size_bytes - 1, offset + rng.choice([1, 100, 70_000, 400_000, 3 * MIB]))
        async with sending(tenant.api, path, offset, size_bytes - offset) as (_reader, writer):
            writer.write(content[offset:end])
            await writer.drain()
            # Close gracefully, so that all bytes sent so far arrive.
            writer.close()
        await wait_for_offset(tenant.api, path, end)
        offset = end
    done = await append_once_unlocked(tenant.api, path, content[offset:], offset=offset)
    await assert_stored(tenant.api, done, content)


async def test_a_disconnect_at_any_point_loses_only_bytes_not_yet_received(tenant: Tenant) -> None:
    size_bytes = 2 * PART + 70_000
    content = content_of(size_bytes)
    rng = random.Random(11)  # noqa: S311
    path = await create(tenant.api, size_bytes)
    offset = 0
    for _cut in range(10):
        sent = rng.randrange(1, 4 * MIB)
        async with sending(tenant.api, path, offset, size_bytes - offset) as (_reader, writer):
            writer.write(content[offset : offset + sent])
            await asyncio.wait([asyncio.create_task(writer.drain())], timeout=rng.random() / 20)
        reported = await offset_of(tenant.api, path)
        assert offset <= reported <= min(offset + sent, size_bytes)
        probe = await append_once_unlocked(tenant.api, path, b"", offset=reported)
        offset = await offset_of(tenant.api, path) if probe.status == 409 else reported
        if offset == size_bytes:
            break
    done = await append_once_unlocked(tenant.api, path, content[offset:], offset=offset)
    await assert_stored(tenant.api, done, content)


async def test_another_process_continues_an_upload(tenant: Tenant, make_client: ClientMaker) -> None:
    path = await create(tenant.api, len(LARGE))
    cuts = [0, 100, PART - 1, PART + 7, len(LARGE)]
    for start, end in itertools.pairwise(cuts):
        fresh = Api(await make_client(), tenant.api.key)
        assert await offset_of(fresh, path) == start
        response = await patch(fresh, path, start, LARGE[start:end])
        assert response.headers["Upload-Offset"] == str(end)
    await assert_stored(tenant.api, response, LARGE)


async def test_complete_parts_survive_a_killed_process(tenant: Tenant, settings: Settings) -> None:
    path = await create(tenant.api, len(LARGE))
    async with serving(settings) as process:
        port = int((await process.started()).rpartition(":")[2])
        async with sending(tenant.api, path, 0, len(LARGE), port=port) as (_reader, writer):
            writer.write(LARGE[: PART + 1000])
            await wait_for_offset(tenant.api, path, PART)
            process.process.kill()
            await process.exit_code()
    assert await offset_of(tenant.api, path) == PART
    done = await append_once_unlocked(tenant.api, path, LARGE[PART:], offset=PART)
    await assert_stored(tenant.api, done, LARGE)


async def test_a_second_request_is_refused_while_the_first_receives_bytes(tenant: Tenant, resources: Resources) -> None:
    path = await create(tenant.api, len(LARGE))
    async with sending(tenant.api, path, 0, 100) as (reader, writer):
        writer.write(LARGE[:1])
        await wait_until_locked(resources, path)
        second = asyncio.create_task(patch(tenant.api, path, 0, LARGE[:50]))
        for position in range(1, 100):
            writer.write(LARGE[position : position + 1])
            await asyncio.wait({second}, timeout=0.1)
            if second.done():
                break
        response = await second
        assert response.is_problem(423, "upload_locked")
        assert response.headers["Retry-After"]
        writer.write(LARGE[position + 1 : 100])
        assert b" 204 " in await reader.readline()
    assert await offset_of(tenant.api, path) == 100


async def test_a_client_can_continue_while_its_dead_connection_is_still_open(
    tenant: Tenant, resources: Resources
) -> None:
    path = await create(tenant.api)
    async with sending(tenant.api, path, 0, 1000) as (reader, writer):
        writer.write(SMALL[:300])
        await wait_until_locked(resources, path)
        # The old request still stores its bytes. This moves the offset, so the new request conflicts with it.
        response = await append_once_unlocked(tenant.api, path, SMALL, offset=0)
        assert response.is_problem(409, "offset_conflict")
        assert await offset_of(tenant.api, path) == 300
        done = await patch(tenant.api, path, 300, SMALL[300:])
        # 204 and not 423: the old request handed over the lock before its lease expired.
        assert b" 204 " in await reader.readline()
    await assert_stored(tenant.api, done, SMALL)


async def test_the_lock_of_a_killed_process_expires(
    tenant: Tenant, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "LEASE_S", 0.5)
    path = await create(tenant.api)
    upload = await row_of(resources, tenant, path)
    dead = writers.Writer(resources, upload, lambda: False)
    await dead.take()
    response = await patch(tenant.api, path, 0, SMALL)
    assert response.status == 204
    with pytest.raises(UploadLocked):
        dead.require()


async def test_a_draining_process_stores_received_bytes_and_releases_the_upload(
    tenant: Tenant, resources: Resources, make_client: ClientMaker
) -> None:
    draining = await make_client()
    api = Api(draining, tenant.api.key)
    path = await create(api)
    async with sending(api, path, 0, 1000) as (reader, writer):
        writer.write(SMALL[:300])
        await wait_until_locked(resources, path)
        draining.app[TRAFFIC].is_draining = True
        assert b" 204 " in await reader.readline()
    assert await offset_of(tenant.api, path) == 300

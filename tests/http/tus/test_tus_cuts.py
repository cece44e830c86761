"""Connections that are cut, and processes that die or drain, in the middle of a tus upload."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import TYPE_CHECKING

import pytest

from ragsvc.errors import UploadLocked
from ragsvc.http.limits.traffic import TRAFFIC
from ragsvc.uploads.tus import writers
from tests.http.conftest import Api
from tests.http.support.processes import serving
from tests.http.tus.support import (
    LARGE,
    MIB,
    PART,
    SMALL,
    arrived,
    assert_stored,
    checksum,
    content_of,
    create,
    held,
    offset_of,
    patch,
    row_of,
    sending,
    until_through,
)

if TYPE_CHECKING:
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings
    from tests.http.conftest import ClientMaker, Tenant


async def test_checked_bytes_that_were_cut_do_not_count(tenant: Tenant) -> None:
    path = await create(tenant.api, len(LARGE))
    await patch(tenant.api, path, 0, LARGE[:1000])
    announced = checksum("md5", LARGE[1000:])["Upload-Checksum"]
    async with sending(tenant.api, path, 1000, len(LARGE) - 1000, checksum=announced) as (_, writer):
        writer.write(LARGE[1000 : 2 * PART])
        await writer.drain()
    again = await until_through(tenant.api, path, LARGE[1000:], offset=1000, **checksum("md5", LARGE[1000:]))
    await assert_stored(tenant.api, again, LARGE)


async def test_what_arrived_before_a_cut_is_kept_to_the_byte(tenant: Tenant) -> None:
    size_bytes = PART + 300_000
    content = content_of(size_bytes)
    chance = random.Random(7)  # noqa: S311
    path = await create(tenant.api, size_bytes)
    offset = 0
    for _cut in range(12):
        end = min(size_bytes - 1, offset + chance.choice([1, 100, 70_000, 400_000, 3 * MIB]))
        async with sending(tenant.api, path, offset, size_bytes - offset) as (_reader, writer):
            writer.write(content[offset:end])
            await writer.drain()
            # Cut in the order of the bytes: what was sent before arrives.
            writer.close()
        await arrived(tenant.api, path, end)
        offset = end
    done = await until_through(tenant.api, path, content[offset:], offset=offset)
    await assert_stored(tenant.api, done, content)


async def test_a_line_that_is_torn_off_anywhere_costs_only_what_had_not_arrived(tenant: Tenant) -> None:
    size_bytes = 2 * PART + 70_000
    content = content_of(size_bytes)
    chance = random.Random(11)  # noqa: S311
    path = await create(tenant.api, size_bytes)
    offset = 0
    for _cut in range(10):
        sent = chance.randrange(1, 4 * MIB)
        async with sending(tenant.api, path, offset, size_bytes - offset) as (_reader, writer):
            writer.write(content[offset : offset + sent])
            await asyncio.wait([asyncio.create_task(writer.drain())], timeout=chance.random() / 20)
        told = await offset_of(tenant.api, path)
        assert offset <= told <= min(offset + sent, size_bytes)
        probe = await until_through(tenant.api, path, b"", offset=told)
        offset = await offset_of(tenant.api, path) if probe.status == 409 else told
        if offset == size_bytes:
            break
    done = await until_through(tenant.api, path, content[offset:], offset=offset)
    await assert_stored(tenant.api, done, content)


async def test_another_process_goes_on_where_one_stopped(tenant: Tenant, make_client: ClientMaker) -> None:
    path = await create(tenant.api, len(LARGE))
    cuts = [0, 100, PART - 1, PART + 7, len(LARGE)]
    for start, end in itertools.pairwise(cuts):
        fresh = Api(await make_client(), tenant.api.key)
        assert await offset_of(fresh, path) == start
        answer = await patch(fresh, path, start, LARGE[start:end])
        assert answer.headers["Upload-Offset"] == str(end)
    await assert_stored(tenant.api, answer, LARGE)


async def test_a_process_that_is_killed_leaves_every_whole_part(tenant: Tenant, settings: Settings) -> None:
    path = await create(tenant.api, len(LARGE))
    async with serving(settings) as process:
        port = int((await process.started()).rpartition(":")[2])
        async with sending(tenant.api, path, 0, len(LARGE), port=port) as (_reader, writer):
            writer.write(LARGE[: PART + 1000])
            await arrived(tenant.api, path, PART)
            process.process.kill()
            await process.exit_code()
    assert await offset_of(tenant.api, path) == PART
    done = await until_through(tenant.api, path, LARGE[PART:], offset=PART)
    await assert_stored(tenant.api, done, LARGE)


async def test_a_second_request_is_refused_while_bytes_come_to_the_first(tenant: Tenant, resources: Resources) -> None:
    path = await create(tenant.api, len(LARGE))
    async with sending(tenant.api, path, 0, 100) as (reader, writer):
        writer.write(LARGE[:1])
        await held(resources, path)
        second = asyncio.create_task(patch(tenant.api, path, 0, LARGE[:50]))
        for place in range(1, 100):
            writer.write(LARGE[place : place + 1])
            await asyncio.wait({second}, timeout=0.1)
            if second.done():
                break
        answer = await second
        assert answer.is_problem(423, "upload_locked")
        assert answer.headers["Retry-After"]
        writer.write(LARGE[place + 1 : 100])
        assert b" 204 " in await reader.readline()
    assert await offset_of(tenant.api, path) == 100


async def test_a_client_gets_through_while_its_dead_line_still_stands(tenant: Tenant, resources: Resources) -> None:
    path = await create(tenant.api)
    async with sending(tenant.api, path, 0, 1000) as (reader, writer):
        writer.write(SMALL[:300])
        await held(resources, path)
        # The old request stores what it has, so that the new one learns of another offset.
        answer = await until_through(tenant.api, path, SMALL, offset=0)
        assert answer.is_problem(409, "offset_conflict")
        assert await offset_of(tenant.api, path) == 300
        done = await patch(tenant.api, path, 300, SMALL[300:])
        # A 204 and no 423: the old request handed over, before its lease could expire.
        assert b" 204 " in await reader.readline()
    await assert_stored(tenant.api, done, SMALL)


async def test_the_hold_of_a_killed_process_ends_by_itself(
    tenant: Tenant, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "LEASE_S", 0.5)
    path = await create(tenant.api)
    upload = await row_of(resources, tenant, path)
    dead = writers.Writer(resources, upload, lambda: False)
    await dead.take()
    answer = await patch(tenant.api, path, 0, SMALL)
    assert answer.status == 204
    with pytest.raises(UploadLocked):
        dead.require()


async def test_a_draining_process_stores_what_came_and_lets_go(
    tenant: Tenant, resources: Resources, make_client: ClientMaker
) -> None:
    leaving = await make_client()
    api = Api(leaving, tenant.api.key)
    path = await create(api)
    async with sending(api, path, 0, 1000) as (reader, writer):
        writer.write(SMALL[:300])
        await held(resources, path)
        leaving.app[TRAFFIC].is_draining = True
        assert b" 204 " in await reader.readline()
    assert await offset_of(tenant.api, path) == 300

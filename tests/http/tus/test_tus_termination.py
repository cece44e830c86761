"""tus uploads that are terminated, expire or vanish from the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ragsvc.http.contract.ids import parse_id
from ragsvc.uploads.sweeper import sweep_uploads
from tests.http.tus.support import (
    LARGE,
    PART,
    SMALL,
    TUS,
    create,
    head,
    patch,
    row_of,
    sending,
    session_of,
    wait_until_locked,
)

if TYPE_CHECKING:
    from ragsvc.resources import Resources
    from tests.http.conftest import Tenant


async def test_a_terminated_upload_leaves_nothing_behind(tenant: Tenant, resources: Resources) -> None:
    path = await create(tenant.api, len(LARGE))
    await patch(tenant.api, path, 0, LARGE[: PART + 9])
    assert (await tenant.api.call("DELETE", path, headers=TUS)).status == 204
    assert (await session_of(tenant.api, path))["status"] == "aborted"
    assert await resources.storage.count_objects(tenant.bucket) == 0
    assert await resources.storage.list_multiparts(tenant.bucket) == []
    assert (await head(tenant.api, path)).status == 410
    assert (await patch(tenant.api, path, PART + 9, b"x")).is_problem(410, "upload_gone")
    assert (await tenant.api.call("DELETE", path, headers=TUS)).is_problem(410, "upload_gone")


async def test_an_upload_terminated_during_an_append_leaves_no_tail(tenant: Tenant, resources: Resources) -> None:
    path = await create(tenant.api)
    async with sending(tenant.api, path, 0, 1000) as (reader, writer):
        writer.write(SMALL[:300])
        await wait_until_locked(resources, path)
        assert (await tenant.api.call("DELETE", path, headers=TUS)).status == 204
        assert b" 410 " in await reader.readline()
    assert await resources.storage.count_objects(tenant.bucket) == 0


async def test_a_completed_upload_cannot_be_terminated(tenant: Tenant) -> None:
    path = await create(tenant.api)
    await patch(tenant.api, path, 0, SMALL)
    assert (await tenant.api.call("DELETE", path, headers=TUS)).is_problem(409, "upload_not_pending")


@pytest.mark.parametrize("swept", [False, True], ids=["before the sweeper", "after it"])
async def test_an_expired_upload_is_deleted_with_its_tail(tenant: Tenant, resources: Resources, *, swept: bool) -> None:
    path = await create(tenant.api)
    await patch(tenant.api, path, 0, SMALL[:100])
    async with resources.pool.acquire() as conn:
        await conn.execute(
            "UPDATE upload_sessions SET expires_at = now() - interval '1 second' WHERE id = $1",
            parse_id("upl", path.rpartition("/")[2]),
        )
    if swept:
        await sweep_uploads(resources)
        assert await resources.storage.count_objects(tenant.bucket) == 0
    assert (await head(tenant.api, path)).status == 410
    assert (await patch(tenant.api, path, 100, SMALL[100:])).is_problem(410, "upload_gone")


async def test_a_multipart_upload_aborted_in_the_store_is_gone(tenant: Tenant, resources: Resources) -> None:
    path = await create(tenant.api)
    upload = await row_of(resources, tenant, path)
    await resources.storage.abort_multipart(upload.bucket, upload.object_key, upload_id=upload.s3_upload_id or "")
    assert (await patch(tenant.api, path, 0, SMALL)).is_problem(410, "upload_gone")

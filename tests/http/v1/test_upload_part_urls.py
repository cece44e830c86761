"""Presigned URLs for parts: what they accept, and when they become invalid."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import aiohttp

from tests.http.support.uploads import (
    CONTENT,
    complete,
    open_upload,
    part_of,
    presign,
    put_to_store,
    state_of,
)
from tests.support.polling import until

if TYPE_CHECKING:
    import pytest

    from ragsvc.resources import Resources
    from tests.http.conftest import Tenant


async def test_presigned_urls_accept_parts_directly_into_the_store(tenant: Tenant) -> None:
    upload = await open_upload(tenant.api)
    response = await tenant.api.post(f"/v1/uploads/{upload['id']}/part-urls", {"part_numbers": [2, 1]})
    assert response.status == 200
    async with aiohttp.ClientSession() as session:
        for entry in response.json["data"]:
            part = part_of(CONTENT, entry["part_number"])
            assert entry["size_bytes"] == len(part)
            async with session.put(entry["url"], data=io.BytesIO(part)) as stored:
                assert stored.status == 200, await stored.text()
    assert (await complete(tenant.api, upload)).json["size_bytes"] == len(CONTENT)
    assert await put_to_store(response.json["data"][0]["url"], part_of(CONTENT, 2)) == 404


async def test_a_presigned_url_accepts_only_its_own_part(tenant: Tenant, other: Tenant) -> None:
    upload = await open_upload(tenant.api, size_bytes=5)
    url = await presign(tenant.api, upload)
    theirs = await open_upload(other.api, size_bytes=5)
    (own_id,) = re.findall("uploadId=([^&]+)", url)
    (their_id,) = re.findall("uploadId=([^&]+)", await presign(other.api, theirs))
    tampered = [
        url.replace("partNumber=1", "partNumber=2"),
        url.replace(f"/{tenant.bucket}/", f"/{other.bucket}/"),
        url.replace(own_id, their_id),
        url.replace("X-Amz-Expires=900", "X-Amz-Expires=90000"),
        url.replace("content-length%3Bhost", "host"),
    ]
    assert url not in tampered
    assert {await put_to_store(one, b"12345") for one in tampered} == {403}
    # The URL accepts only the exact size of its part.
    assert {await put_to_store(url, data) for data in (b"", b"1234", b"123456")} == {403}
    for api, session in ((tenant.api, upload), (other.api, theirs)):
        assert (await state_of(api, session))["received"] == []
    assert await put_to_store(url, b"12345") == 200
    assert (await complete(tenant.api, upload)).status == 200


async def test_a_presigned_url_is_invalid_after_its_upload(tenant: Tenant, resources: Resources) -> None:
    upload = await open_upload(tenant.api, size_bytes=5)
    url = await presign(tenant.api, upload)
    assert await put_to_store(url, b"12345") == 200
    await tenant.api.delete(f"/v1/uploads/{upload['id']}")
    assert await put_to_store(url, b"12345") == 404
    assert (await state_of(tenant.api, upload))["status"] == "aborted"
    assert await resources.storage.list_multiparts(tenant.bucket) == []
    assert await resources.storage.count_objects(tenant.bucket) == 0
    assert (await tenant.api.get("/v1/documents")).json["data"] == []


async def test_a_presigned_url_expires(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    api = tenant.api
    for module in ("storage.multipart_calls", "http.v1.uploads"):
        monkeypatch.setattr(f"ragsvc.{module}.PRESIGN_EXPIRES_S", 1)
    upload = await open_upload(api, size_bytes=1)
    response = (await api.post(f"/v1/uploads/{upload['id']}/part-urls", {"part_numbers": [1]})).json
    assert response["expires_in_s"] == 1
    async with aiohttp.ClientSession() as session:

        async def is_refused() -> bool:
            async with session.put(response["data"][0]["url"], data=b"x") as stored:
                return stored.status == 403

        await until(is_refused, timeout_s=10)

"""Appends over tus 1.0: offsets, checksums and documents."""

from __future__ import annotations

import asyncio
import io
import itertools
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import aiohttp
import pytest

from ragsvc.uploads.tails import Tail, load_tail, store_tail
from ragsvc.uploads.tus.offsets import load_progress, measure
from tests.http.support.processes import serving
from tests.http.tus.support import (
    BODY,
    LARGE,
    MIB,
    PART,
    SMALL,
    assert_stored,
    checksum,
    content_of,
    create,
    head,
    metadata,
    offset_of,
    patch,
    row_of,
    session_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings
    from tests.http.conftest import Tenant


async def test_an_upload_of_many_requests_becomes_a_document(tenant: Tenant) -> None:
    sent = metadata(filename="big.txt", filetype="text/plain; charset=cp866", attributes='{"year": 2026}')
    path = await create(tenant.api, len(LARGE), **sent)
    cuts = [0, 1, 5 * MIB, PART, PART + 1, 2 * PART - 1, len(LARGE)]
    for start, end in itertools.pairwise(cuts):
        response = await patch(tenant.api, path, start, LARGE[start:end])
        assert (response.status, response.raw) == (204, b"")
        assert response.headers["Upload-Offset"] == str(end)
        assert ("Ragsvc-Document-Id" in response.headers) == (end == len(LARGE))
        assert await offset_of(tenant.api, path) == end
    document = await assert_stored(tenant.api, response, LARGE)
    assert (document["filename"], document["mime_type"]) == ("big.txt", "text/plain")
    assert document["attributes"] == {"year": 2026}
    session = await session_of(tenant.api, path)
    assert (session["status"], session["document_id"]) == ("completed", document["id"])


async def test_one_request_can_contain_the_whole_file(tenant: Tenant, resources: Resources) -> None:
    path = await create(tenant.api, len(LARGE))
    response = await patch(tenant.api, path, 0, LARGE)
    await assert_stored(tenant.api, response, LARGE)
    assert await resources.storage.count_objects(tenant.bucket) == 1


async def test_the_offset_is_returned_with_the_metadata_of_the_file(tenant: Tenant) -> None:
    sent = {"Upload-Metadata": "filename YS50eHQ=,is_confidential,relativePath bnVsbA=="}
    path = await create(tenant.api, len(SMALL), **sent)
    await patch(tenant.api, path, 0, SMALL[:400])
    response = await head(tenant.api, path)
    assert (response.headers["Upload-Offset"], response.headers["Upload-Length"]) == ("400", "1000")
    assert response.headers["Upload-Metadata"] == sent["Upload-Metadata"]
    session = await session_of(tenant.api, path)
    expires = parsedate_to_datetime(response.headers["Upload-Expires"])
    assert session["expires_at"].startswith(expires.strftime("%Y-%m-%dT%H:%M:%S"))
    done = await patch(tenant.api, path, 400, SMALL[400:])
    after = await head(tenant.api, path)
    assert after.headers["Ragsvc-Document-Id"] == done.headers["Ragsvc-Document-Id"]
    assert "Upload-Expires" not in after.headers


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Upload-Offset": "99"}, 409, "offset_conflict"),
        ({"Upload-Offset": "101"}, 409, "offset_conflict"),
        ({"Upload-Offset": ""}, 400, "bad_request"),
        ({"Upload-Offset": "x"}, 400, "bad_request"),
        ({"Content-Type": "application/octet-stream"}, 415, "unsupported_media_type"),
        ({"Tus-Resumable": "2.0.0"}, 412, "unsupported_tus_version"),
        ({"Upload-Checksum": "crc32 AAAA"}, 400, "bad_request"),
        ({"Upload-Checksum": "sha1 AAAA"}, 400, "bad_request"),
        ({"Upload-Checksum": "sha1 ?"}, 400, "bad_request"),
    ],
)
async def test_an_append_with_wrong_headers_is_refused(
    tenant: Tenant, headers: dict[str, str], status: int, code: str
) -> None:
    path = await create(tenant.api)
    await patch(tenant.api, path, 0, SMALL[:100])
    response = await patch(tenant.api, path, 100, SMALL[100:], **headers)
    assert response.is_problem(status, code), response.raw
    assert response.headers["Tus-Resumable"] == "1.0.0"
    assert await offset_of(tenant.api, path) == 100


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
async def test_more_bytes_than_declared_are_refused(tenant: Tenant, *, chunked: bool) -> None:
    path = await create(tenant.api)

    async def blocks() -> AsyncIterator[bytes]:
        yield SMALL + b"x"

    response = await patch(tenant.api, path, 0, blocks() if chunked else SMALL + b"x")
    assert response.is_problem(413, "too_large")
    assert await offset_of(tenant.api, path) == 0


async def test_a_repeated_last_request_gets_the_document_id_again(tenant: Tenant) -> None:
    path = await create(tenant.api)
    first = await patch(tenant.api, path, 0, SMALL)
    assert (await patch(tenant.api, path, 0, SMALL)).is_problem(409, "offset_conflict")
    again = await patch(tenant.api, path, 1000, b"")
    assert again.status == 204
    assert again.headers["Ragsvc-Document-Id"] == first.headers["Ragsvc-Document-Id"]


@pytest.mark.parametrize("name", ["sha1", "sha256", "md5"])
async def test_bytes_count_only_after_their_checksum_is_verified(tenant: Tenant, name: str) -> None:
    path = await create(tenant.api)
    wrong = await patch(tenant.api, path, 0, SMALL, **checksum(name, b"other"))
    assert wrong.is_problem(460, "upload_checksum_mismatch")
    assert await offset_of(tenant.api, path) == 0
    half = await patch(tenant.api, path, 0, SMALL[:500], **checksum(name, SMALL[:500]))
    assert (half.status, half.headers["Upload-Offset"]) == (204, "500")
    rest = await patch(tenant.api, path, 500, SMALL[500:], **checksum(name, SMALL[500:]))
    await assert_stored(tenant.api, rest, SMALL)


@pytest.mark.parametrize("start", [0, 1000])
async def test_parts_count_only_after_a_checksum_over_all_of_them_is_verified(tenant: Tenant, start: int) -> None:
    path = await create(tenant.api, len(LARGE))
    await patch(tenant.api, path, 0, LARGE[:start])
    bad = bytes(len(LARGE) - start)
    wrong = await patch(tenant.api, path, start, bad, **checksum("sha256", b"other"))
    assert wrong.is_problem(460, "upload_checksum_mismatch")
    assert await offset_of(tenant.api, path) == start
    # The second part was stored before the checksum failed, so it must not count once the first part is complete.
    assert (await patch(tenant.api, path, start, LARGE[start:PART])).headers["Upload-Offset"] == str(PART)
    assert await offset_of(tenant.api, path) == PART
    rest = await patch(tenant.api, path, PART, LARGE[PART:], **checksum("sha256", LARGE[PART:]))
    await assert_stored(tenant.api, rest, LARGE)


async def test_a_large_append_needs_constant_memory(tenant: Tenant, settings: Settings) -> None:
    content = content_of(96 * MIB)
    path = await create(tenant.api, len(content))
    async with serving(settings) as process:
        url = await process.started()
        warm = await create(tenant.api)
        headers = {**tenant.api.headers, **BODY, "Upload-Offset": "0"}
        async with aiohttp.ClientSession(url, headers=headers) as session:
            async with session.patch(warm, data=SMALL) as response:
                assert response.status == 204
            before = process.peak_memory_bytes()
            async with session.patch(path, data=io.BytesIO(content)) as response:
                assert response.status == 204
                assert response.headers["Ragsvc-Document-Id"]
        grown = process.peak_memory_bytes() - before
        # One part of UPLOAD_PART_SIZE_BYTES (8 MiB), and the copies in the S3 client.
        assert grown < 40 * MIB, grown


async def test_the_offset_counts_only_contiguous_parts(tenant: Tenant, resources: Resources) -> None:
    """Simulate a process that is killed between any two of its writes."""
    path = await create(tenant.api, len(LARGE))
    await patch(tenant.api, path, 0, LARGE[: PART - 5])
    upload = await row_of(resources, tenant, path)
    s3 = {"upload_id": upload.s3_upload_id or ""}

    async def put(number: int, body: bytes) -> None:
        await resources.storage.upload_part(upload.bucket, upload.object_key, number=number, body=body, **s3)

    # Killed after storing the first part but before replacing the tail: the old tail belongs to the first part.
    await put(1, LARGE[:PART])
    assert await offset_of(tenant.api, path) == PART
    # Killed during a request with a checksum: its first part is not stored yet, so later ones do not count.
    await store_tail(resources, upload, part_number=2, body=bytes(PART), counted_bytes=3)
    await put(3, bytes(1000))
    assert await offset_of(tenant.api, path) == PART + 3
    # Killed after the last part, before completion: the next request completes the upload.
    await put(2, LARGE[PART : 2 * PART])
    await put(3, LARGE[2 * PART :])
    await assert_stored(tenant.api, await head(tenant.api, path), LARGE)
    assert await resources.storage.count_objects(tenant.bucket) == 1


async def test_a_tail_records_its_part(tenant: Tenant, resources: Resources) -> None:
    path = await create(tenant.api, len(LARGE))
    await patch(tenant.api, path, 0, LARGE[: PART + 9])
    upload = await row_of(resources, tenant, path)
    assert await load_tail(resources, upload) == Tail(part_number=2, counted_bytes=9, size_bytes=9)
    progress = await load_progress(resources, tenant.uuid, upload.id)
    assert (progress.offset, progress.whole_parts) == (PART + 9, 1)
    assert measure(upload, (), progress.tail).offset == 0


async def test_concurrent_last_requests_create_one_document(tenant: Tenant) -> None:
    path = await create(tenant.api)
    responses = await asyncio.gather(*(patch(tenant.api, path, 0, SMALL) for _ in range(8)))
    assert sorted(response.status for response in responses) == [204, *[409] * 7]
    assert len((await tenant.api.get("/v1/documents")).json["data"]) == 1

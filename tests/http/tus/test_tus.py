"""Uploads over tus 1.0: every byte that arrived counts, whatever is cut, and no byte counts that is not stored."""

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


async def test_an_upload_grows_by_every_request_and_becomes_a_document(tenant: Tenant) -> None:
    told = metadata(filename="big.txt", filetype="text/plain; charset=cp866", attributes='{"year": 2026}')
    path = await create(tenant.api, len(LARGE), **told)
    cuts = [0, 1, 5 * MIB, PART, PART + 1, 2 * PART - 1, len(LARGE)]
    for start, end in itertools.pairwise(cuts):
        answer = await patch(tenant.api, path, start, LARGE[start:end])
        assert (answer.status, answer.raw) == (204, b"")
        assert answer.headers["Upload-Offset"] == str(end)
        assert ("Ragsvc-Document-Id" in answer.headers) == (end == len(LARGE))
        assert await offset_of(tenant.api, path) == end
    document = await assert_stored(tenant.api, answer, LARGE)
    assert (document["filename"], document["mime_type"]) == ("big.txt", "text/plain")
    assert document["attributes"] == {"year": 2026}
    session = await session_of(tenant.api, path)
    assert (session["status"], session["document_id"]) == ("completed", document["id"])


async def test_one_request_can_bring_the_whole_file(tenant: Tenant, resources: Resources) -> None:
    path = await create(tenant.api, len(LARGE))
    answer = await patch(tenant.api, path, 0, LARGE)
    await assert_stored(tenant.api, answer, LARGE)
    assert await resources.storage.count_objects(tenant.bucket) == 1


async def test_the_offset_is_told_with_all_that_was_said_of_the_file(tenant: Tenant) -> None:
    told = {"Upload-Metadata": "filename YS50eHQ=,is_confidential,relativePath bnVsbA=="}
    path = await create(tenant.api, len(SMALL), **told)
    await patch(tenant.api, path, 0, SMALL[:400])
    answer = await head(tenant.api, path)
    assert (answer.headers["Upload-Offset"], answer.headers["Upload-Length"]) == ("400", "1000")
    assert answer.headers["Upload-Metadata"] == told["Upload-Metadata"]
    session = await session_of(tenant.api, path)
    expires = parsedate_to_datetime(answer.headers["Upload-Expires"])
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
async def test_bytes_that_do_not_fit_are_refused(
    tenant: Tenant, headers: dict[str, str], status: int, code: str
) -> None:
    path = await create(tenant.api)
    await patch(tenant.api, path, 0, SMALL[:100])
    answer = await patch(tenant.api, path, 100, SMALL[100:], **headers)
    assert answer.is_problem(status, code), answer.raw
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert await offset_of(tenant.api, path) == 100


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
async def test_more_bytes_than_were_declared_are_refused(tenant: Tenant, *, chunked: bool) -> None:
    path = await create(tenant.api)

    async def blocks() -> AsyncIterator[bytes]:
        yield SMALL + b"x"

    answer = await patch(tenant.api, path, 0, blocks() if chunked else SMALL + b"x")
    assert answer.is_problem(413, "too_large")
    assert await offset_of(tenant.api, path) == 0


async def test_a_repeated_last_request_is_told_the_document_again(tenant: Tenant) -> None:
    path = await create(tenant.api)
    first = await patch(tenant.api, path, 0, SMALL)
    assert (await patch(tenant.api, path, 0, SMALL)).is_problem(409, "offset_conflict")
    again = await patch(tenant.api, path, 1000, b"")
    assert again.status == 204
    assert again.headers["Ragsvc-Document-Id"] == first.headers["Ragsvc-Document-Id"]


@pytest.mark.parametrize("name", ["sha1", "sha256", "md5"])
async def test_a_checksum_is_checked_before_anything_counts(tenant: Tenant, name: str) -> None:
    path = await create(tenant.api)
    wrong = await patch(tenant.api, path, 0, SMALL, **checksum(name, b"other"))
    assert wrong.is_problem(460, "upload_checksum_mismatch")
    assert await offset_of(tenant.api, path) == 0
    half = await patch(tenant.api, path, 0, SMALL[:500], **checksum(name, SMALL[:500]))
    assert (half.status, half.headers["Upload-Offset"]) == (204, "500")
    rest = await patch(tenant.api, path, 500, SMALL[500:], **checksum(name, SMALL[500:]))
    await assert_stored(tenant.api, rest, SMALL)


@pytest.mark.parametrize("start", [0, 1000])
async def test_a_checksum_over_several_parts_lets_none_count_before_its_end(tenant: Tenant, start: int) -> None:
    path = await create(tenant.api, len(LARGE))
    await patch(tenant.api, path, 0, LARGE[:start])
    bad = bytes(len(LARGE) - start)
    wrong = await patch(tenant.api, path, start, bad, **checksum("sha256", b"other"))
    assert wrong.is_problem(460, "upload_checksum_mismatch")
    assert await offset_of(tenant.api, path) == start
    # The second part was stored before the end was known: the first becoming whole must not make it count.
    assert (await patch(tenant.api, path, start, LARGE[start:PART])).headers["Upload-Offset"] == str(PART)
    assert await offset_of(tenant.api, path) == PART
    rest = await patch(tenant.api, path, PART, LARGE[PART:], **checksum("sha256", LARGE[PART:]))
    await assert_stored(tenant.api, rest, LARGE)


async def test_a_long_request_goes_through_with_flat_memory(tenant: Tenant, settings: Settings) -> None:
    content = content_of(96 * MIB)
    path = await create(tenant.api, len(content))
    async with serving(settings) as process:
        url = await process.started()
        warm = await create(tenant.api)
        headers = {**tenant.api.headers, **BODY, "Upload-Offset": "0"}
        async with aiohttp.ClientSession(url, headers=headers) as session:
            async with session.patch(warm, data=SMALL) as answer:
                assert answer.status == 204
            before = process.peak_memory_bytes()
            async with session.patch(path, data=io.BytesIO(content)) as answer:
                assert answer.status == 204
                assert answer.headers["Ragsvc-Document-Id"]
        grown = process.peak_memory_bytes() - before
        # One part of UPLOAD_PART_SIZE_BYTES (8 MiB), and what the client of the store holds of it.
        assert grown < 40 * MIB, grown


async def test_the_offset_counts_only_what_is_in_order(tenant: Tenant, resources: Resources) -> None:
    """What a process may leave that is killed between any two of its writes."""
    path = await create(tenant.api, len(LARGE))
    await patch(tenant.api, path, 0, LARGE[: PART - 5])
    upload = await row_of(resources, tenant, path)
    s3 = {"upload_id": upload.s3_upload_id or ""}

    async def put(number: int, body: bytes) -> None:
        await resources.storage.upload_part(upload.bucket, upload.object_key, number=number, body=body, **s3)

    # Killed after the first part, before its tail was replaced: the tail is the first part's, and counts no more.
    await put(1, LARGE[:PART])
    assert await offset_of(tenant.api, path) == PART
    # Killed while a checked request was on its way: its first part is no part yet, later ones do not count.
    await store_tail(resources, upload, part_number=2, body=bytes(PART), counted_bytes=3)
    await put(3, bytes(1000))
    assert await offset_of(tenant.api, path) == PART + 3
    # Killed after the last part, before it was completed: whoever asks completes it.
    await put(2, LARGE[PART : 2 * PART])
    await put(3, LARGE[2 * PART :])
    await assert_stored(tenant.api, await head(tenant.api, path), LARGE)
    assert await resources.storage.count_objects(tenant.bucket) == 1


async def test_a_tail_says_which_part_it_belongs_to(tenant: Tenant, resources: Resources) -> None:
    path = await create(tenant.api, len(LARGE))
    await patch(tenant.api, path, 0, LARGE[: PART + 9])
    upload = await row_of(resources, tenant, path)
    assert await load_tail(resources, upload) == Tail(part_number=2, counted_bytes=9, size_bytes=9)
    progress = await load_progress(resources, tenant.uuid, upload.id)
    assert (progress.offset, progress.whole_parts) == (PART + 9, 1)
    assert measure(upload, (), progress.tail).offset == 0


async def test_many_last_requests_at_once_make_one_document(tenant: Tenant) -> None:
    path = await create(tenant.api)
    responses = await asyncio.gather(*(patch(tenant.api, path, 0, SMALL) for _ in range(8)))
    assert sorted(answer.status for answer in responses) == [204, *[409] * 7]
    assert len((await tenant.api.get("/v1/documents")).json["data"]) == 1

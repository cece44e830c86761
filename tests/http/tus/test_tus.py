"""Uploads over tus 1.0: every byte that arrived counts, whatever is cut, and no byte counts that is not stored."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import itertools
import random
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import pytest

from ragsvc.errors import UploadLocked
from ragsvc.http.contract.ids import parse_id
from ragsvc.http.limits.traffic import TRAFFIC
from ragsvc.uploads.sessions import load_session
from ragsvc.uploads.sweeper import sweep_uploads
from ragsvc.uploads.tails import Tail, load_tail, store_tail
from ragsvc.uploads.tus import writers
from ragsvc.uploads.tus.offsets import load_progress, measure
from tests.http.conftest import Api, make_key
from tests.http.support.processes import serving
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.domain.uploads import Upload
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings
    from tests.http.conftest import ApiResponse, Client, ClientMaker, Tenant

MIB = 1024 * 1024
PART = 8 * MIB
TUS = {"Tus-Resumable": "1.0.0"}
BODY = {**TUS, "Content-Type": "application/offset+octet-stream"}


def content_of(size_bytes: int) -> bytes:
    return random.Random(size_bytes).randbytes(size_bytes)  # noqa: S311


SMALL = content_of(1000)
# Three parts, the last of which is small.
LARGE = content_of(2 * PART + 1000)


def metadata(**values: str) -> dict[str, str]:
    pairs = (f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in values.items())
    return {"Upload-Metadata": ",".join(pairs)}


def checksum(name: str, data: bytes) -> dict[str, str]:
    digest = hashlib.new(name, data, usedforsecurity=False).digest()
    return {"Upload-Checksum": f"{name} {base64.b64encode(digest).decode()}"}


async def create(api: Api, size_bytes: int = len(SMALL), **headers: str) -> str:
    answer = await api.call("POST", "/tus", headers={**TUS, "Upload-Length": str(size_bytes), **headers})
    assert answer.status == 201, answer.raw
    assert answer.headers["Upload-Offset"] == "0"
    return answer.headers["Location"]


async def patch(api: Api, path: str, offset: int, data: Any, **headers: str) -> ApiResponse:
    body = io.BytesIO(data) if isinstance(data, bytes) else data
    return await api.call("PATCH", path, data=body, headers={**BODY, "Upload-Offset": str(offset), **headers})


async def head(api: Api, path: str) -> ApiResponse:
    return await api.call("HEAD", path, headers=TUS)


async def offset_of(api: Api, path: str) -> int:
    answer = await head(api, path)
    assert answer.status == 200, answer.status
    assert answer.headers["Cache-Control"] == "no-store"
    return int(answer.headers["Upload-Offset"])


async def session_of(api: Api, path: str) -> dict[str, Any]:
    state: dict[str, Any] = (await api.get(f"/v1/uploads/{path.rpartition('/')[2]}")).json
    return state


async def assert_stored(api: Api, answer: ApiResponse, content: bytes) -> dict[str, Any]:
    document: dict[str, Any] = (await api.get(f"/v1/documents/{answer.headers['Ragsvc-Document-Id']}")).json
    stored = await api.get(f"/v1/documents/{document['id']}/content")
    assert hashlib.sha256(stored.raw).digest() == hashlib.sha256(content).digest()
    return document


async def row_of(resources: Resources, tenant: Tenant, path: str) -> Upload:
    return await load_session(resources, tenant.uuid, parse_id("upl", path.rpartition("/")[2]))


@asynccontextmanager
async def sending(
    api: Api, path: str, offset: int, length: int, *, port: int | None = None, checksum: str | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection and send the head of a PATCH; it is aborted at the end."""
    reader, writer = await asyncio.open_connection(api.client.host, port or api.client.port)
    every = {**api.headers, **BODY, "Host": "x", "Upload-Offset": str(offset), "Content-Length": str(length)}
    every |= {"Upload-Checksum": checksum} if checksum else {}
    lines = "".join(f"{name}: {value}\r\n" for name, value in every.items())
    writer.write(f"PATCH {path} HTTP/1.1\r\n{lines}\r\n".encode())
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def held(resources: Resources, path: str) -> None:
    """Wait until a request holds the upload."""

    async def look() -> object:
        async with resources.pool.acquire() as conn:
            return await conn.fetchval(
                "SELECT writer FROM upload_sessions WHERE id = $1", parse_id("upl", path.rpartition("/")[2])
            )

    await until(look, what="the hold")


async def arrived(api: Api, path: str, offset: int) -> None:
    """Wait until the upload has come to this offset."""

    async def look() -> bool:
        return await offset_of(api, path) == offset

    await until(look, what=f"offset {offset}")


async def test_anybody_is_told_what_the_server_speaks(stranger: Api) -> None:
    answer = await stranger.call("OPTIONS", "/tus")
    assert answer.status == 204
    assert answer.headers["Tus-Resumable"] == answer.headers["Tus-Version"] == "1.0.0"
    assert answer.headers["Tus-Extension"] == "creation,creation-with-upload,termination,checksum,expiration"
    assert answer.headers["Tus-Checksum-Algorithm"] == "sha1,sha256,md5"
    assert int(answer.headers["Tus-Max-Size"]) == 5 * 1024**3


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


async def test_the_first_bytes_may_come_with_the_creation(tenant: Tenant) -> None:
    headers = {**BODY, "Upload-Length": "1000", **metadata(filename="a.txt")}
    whole = await tenant.api.call("POST", "/tus", data=SMALL, headers=headers)
    assert (whole.status, whole.headers["Upload-Offset"]) == (201, "1000")
    await assert_stored(tenant.api, whole, SMALL)
    begun = await tenant.api.call("POST", "/tus", data=SMALL[:10], headers=headers)
    assert (begun.status, begun.headers["Upload-Offset"]) == (201, "10")
    assert "Upload-Expires" in begun.headers
    rest = await patch(tenant.api, begun.headers["Location"], 10, SMALL[10:])
    await assert_stored(tenant.api, rest, SMALL)


@pytest.mark.parametrize(
    ("data", "headers", "status", "code"),
    [
        (SMALL + b"x", {}, 413, "too_large"),
        (SMALL, checksum("sha1", b"other"), 460, "upload_checksum_mismatch"),
        (SMALL, {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
    ],
    ids=["too long", "wrong checksum", "wrong type"],
)
async def test_a_creation_whose_bytes_are_refused_leaves_no_upload(
    tenant: Tenant, data: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer = await tenant.api.call("POST", "/tus", data=data, headers={**BODY, "Upload-Length": "1000", **headers})
    assert answer.is_problem(status, code), answer.raw
    assert (await tenant.api.get("/v1/uploads?status=pending")).json["data"] == []


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 400, "bad_request"),
        ({"Upload-Length": "-1"}, 400, "bad_request"),
        ({"Upload-Length": "1.5"}, 400, "bad_request"),
        ({"Upload-Length": "9" * 40}, 400, "bad_request"),
        ({"Upload-Defer-Length": "1"}, 400, "bad_request"),
        ({"Upload-Length": "1", "Upload-Concat": "partial"}, 400, "bad_request"),
        ({"Upload-Length": "1", "X-HTTP-Method-Override": "PATCH"}, 405, "method_not_allowed"),
        ({"Upload-Length": "0"}, 422, "empty_file"),
        ({"Upload-Length": str(5 * 1024**3 + 1)}, 413, "too_large"),
        ({"Upload-Length": "1", "Upload-Metadata": "filename ?"}, 422, "invalid_request"),
        ({"Upload-Length": "1", "Upload-Metadata": "a YQ==,a YQ=="}, 422, "invalid_request"),
        ({"Upload-Length": "1", "Upload-Metadata": "b\u00e4 YQ=="}, 422, "invalid_request"),
        ({"Upload-Length": "1", **metadata(filename="a\0b")}, 422, "invalid_request"),
        ({"Upload-Length": "1", **metadata(attributes="{")}, 422, "invalid_request"),
        ({"Upload-Length": "1", **metadata(attributes='{"a": []}')}, 422, "invalid_request"),
        ({"Upload-Length": "1", **metadata(attributes='{"a": 98765432109876543210987}')}, 422, "invalid_request"),
        ({"Upload-Length": "1", **metadata(collection_id="mine")}, 422, "invalid_request"),
        ({"Upload-Length": "1", **metadata(collection_id="col_" + "0" * 32)}, 404, "not_found"),
        ({"Upload-Length": "1", "Tus-Resumable": "0.2.2"}, 412, "unsupported_tus_version"),
    ],
)
async def test_what_is_wrong_from_the_start_opens_nothing(
    tenant: Tenant, headers: dict[str, str], status: int, code: str
) -> None:
    answer = await tenant.api.call("POST", "/tus", headers={**TUS, **headers})
    assert answer.is_problem(status, code), answer.raw
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert (answer.headers.get("Tus-Version") == "1.0.0") == (status == 412)
    assert (await tenant.api.get("/v1/uploads")).json["data"] == []


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


async def test_checked_bytes_that_were_cut_do_not_count(tenant: Tenant) -> None:
    path = await create(tenant.api, len(LARGE))
    await patch(tenant.api, path, 0, LARGE[:1000])
    announced = checksum("md5", LARGE[1000:])["Upload-Checksum"]
    async with sending(tenant.api, path, 1000, len(LARGE) - 1000, checksum=announced) as (_, writer):
        writer.write(LARGE[1000 : 2 * PART])
        await writer.drain()
    again = await until_through(tenant.api, path, LARGE[1000:], offset=1000, **checksum("md5", LARGE[1000:]))
    await assert_stored(tenant.api, again, LARGE)


async def until_through(api: Api, path: str, data: bytes, *, offset: int, **headers: str) -> ApiResponse:
    """Send until no request before this one holds the upload any more."""

    async def attempt() -> ApiResponse | None:
        answer = await patch(api, path, offset, data, **headers)
        return None if answer.status == 423 else answer

    return await until(attempt, timeout_s=10)


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
        started = asyncio.get_running_loop().time()
        # The old request stores what it has, so that the new one learns of another offset.
        answer = await until_through(tenant.api, path, SMALL, offset=0)
        assert answer.is_problem(409, "offset_conflict")
        assert await offset_of(tenant.api, path) == 300
        done = await patch(tenant.api, path, 300, SMALL[300:])
        assert asyncio.get_running_loop().time() - started < 6
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


async def test_a_terminated_upload_keeps_nothing(tenant: Tenant, resources: Resources) -> None:
    path = await create(tenant.api, len(LARGE))
    await patch(tenant.api, path, 0, LARGE[: PART + 9])
    assert (await tenant.api.call("DELETE", path, headers=TUS)).status == 204
    assert (await session_of(tenant.api, path))["status"] == "aborted"
    assert await resources.storage.count_objects(tenant.bucket) == 0
    assert await resources.storage.list_multiparts(tenant.bucket) == []
    assert (await head(tenant.api, path)).status == 410
    assert (await patch(tenant.api, path, PART + 9, b"x")).is_problem(410, "upload_gone")
    assert (await tenant.api.call("DELETE", path, headers=TUS)).is_problem(410, "upload_gone")


async def test_an_upload_that_is_terminated_under_way_leaves_no_tail(tenant: Tenant, resources: Resources) -> None:
    path = await create(tenant.api)
    async with sending(tenant.api, path, 0, 1000) as (reader, writer):
        writer.write(SMALL[:300])
        await held(resources, path)
        assert (await tenant.api.call("DELETE", path, headers=TUS)).status == 204
        assert b" 410 " in await reader.readline()
    assert await resources.storage.count_objects(tenant.bucket) == 0


async def test_a_document_is_not_terminated(tenant: Tenant) -> None:
    path = await create(tenant.api)
    await patch(tenant.api, path, 0, SMALL)
    assert (await tenant.api.call("DELETE", path, headers=TUS)).is_problem(409, "upload_not_pending")


@pytest.mark.parametrize("swept", [False, True], ids=["before the sweeper", "after it"])
async def test_an_expired_upload_is_gone_with_its_tail(tenant: Tenant, resources: Resources, *, swept: bool) -> None:
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


async def test_a_multipart_that_is_gone_behind_our_back_is_told(tenant: Tenant, resources: Resources) -> None:
    path = await create(tenant.api)
    upload = await row_of(resources, tenant, path)
    await resources.storage.abort_multipart(upload.bucket, upload.object_key, upload_id=upload.s3_upload_id or "")
    assert (await patch(tenant.api, path, 0, SMALL)).is_problem(410, "upload_gone")


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE", "POST"])
async def test_anothers_upload_is_unknown(tenant: Tenant, other: Tenant, method: str) -> None:
    path = await create(tenant.api)
    native = (await other.api.post("/v1/uploads", {"filename": "a.txt", "size_bytes": 1000})).json["id"]
    override = {"X-HTTP-Method-Override": "PATCH"} if method == "POST" else {}
    for unknown in (path, "/tus/upl_" + "0" * 32, "/tus/upl_1", f"/tus/{native}"):
        answer = await other.api.call(method, unknown, headers={**BODY, "Upload-Offset": "0", **override}, data=b"")
        assert answer.status == 404
        assert method == "HEAD" or answer.is_problem(404, "not_found")


async def test_a_key_is_needed_that_may_upload(tenant: Tenant, stranger: Api, admin: Api, client: Client) -> None:
    length = {**TUS, "Upload-Length": "1000"}
    assert (await stranger.call("POST", "/tus", headers=length)).is_problem(401, "unauthorized")
    assert (await stranger.call("PATCH", "/tus/upl_1", headers=BODY)).is_problem(401, "unauthorized")
    reader = Api(client, await make_key(admin, tenant.id, scopes=["read"]))
    assert (await reader.call("POST", "/tus", headers=length)).is_problem(403, "forbidden")
    uploader = Api(client, await make_key(admin, tenant.id, scopes=["upload"]))
    path = await create(uploader)
    assert (await patch(uploader, path, 0, SMALL)).status == 204


async def test_the_method_can_be_overridden(tenant: Tenant) -> None:
    path = await create(tenant.api)

    async def post(method: str, **headers: str) -> ApiResponse:
        every = {**BODY, "X-HTTP-Method-Override": method, **headers}
        return await tenant.api.call("POST", path, data=SMALL[:10] if method == "PATCH" else b"", headers=every)

    assert (await post("PATCH", **{"Upload-Offset": "0"})).headers["Upload-Offset"] == "10"
    assert (await post("HEAD")).headers["Upload-Offset"] == "10"
    assert (await post("OPTIONS")).headers["Tus-Version"] == "1.0.0"
    refused = await post("GET")
    assert refused.is_problem(405, "method_not_allowed")
    assert refused.headers["Allow"]
    # The request's own method does not count then.
    assert (await tenant.api.call("HEAD", path, headers={**TUS, "X-HTTP-Method-Override": "DELETE"})).status == 204
    assert (await session_of(tenant.api, path))["status"] == "aborted"


async def test_many_last_requests_at_once_make_one_document(tenant: Tenant) -> None:
    path = await create(tenant.api)
    responses = await asyncio.gather(*(patch(tenant.api, path, 0, SMALL) for _ in range(8)))
    assert sorted(answer.status for answer in responses) == [204, *[409] * 7]
    assert len((await tenant.api.get("/v1/documents")).json["data"]) == 1


async def test_a_problem_is_told_in_the_shape_of_all_others(tenant: Tenant) -> None:
    answer = await patch(tenant.api, "/tus/upl_" + "0" * 32, 0, b"x")
    assert orjson.loads(answer.raw)["code"] == "not_found"
    assert answer.is_problem(404, "not_found")

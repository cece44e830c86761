"""Upload sessions over HTTP: parts in any order, resumption, and one document at the end."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from ragsvc.db import upload_sessions
from ragsvc.http.contract.ids import parse_id
from ragsvc.uploads.sweeper import sweep_uploads
from tests.http.conftest import Api, make_key
from tests.http.support.uploads import (
    CONTENT,
    MIB,
    PART,
    complete,
    content_of,
    open_upload,
    part_of,
    put,
    reserved_bytes,
    send_all,
    state_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.resources import Resources
    from tests.http.conftest import ClientMaker, Tenant

LEAST_PART = 5 * MIB


async def test_a_declared_charset_is_stored_with_the_file_and_not_shown(tenant: Tenant) -> None:
    upload = await open_upload(tenant.api, mime_type="text/plain; charset=cp866")
    await send_all(tenant.api, upload)
    document_id = (await complete(tenant.api, upload)).json["id"]
    assert (await state_of(tenant.api, upload))["mime_type"] == upload["mime_type"] == "text/plain"
    content = await tenant.api.get(f"/v1/documents/{document_id}/content")
    assert content.headers["Content-Type"] == "text/plain; charset=cp866"


async def test_parts_in_any_order_become_one_document(tenant: Tenant) -> None:
    upload = await open_upload(tenant.api, attributes={"year": 2026})
    assert (upload["status"], upload["part_size_bytes"], upload["part_count"]) == ("pending", PART, 2)
    assert (await state_of(tenant.api, upload))["missing"] == [1, 2]
    await send_all(tenant.api, upload)
    state = await state_of(tenant.api, upload)
    assert (state["missing"], state["received_bytes"]) == ([], len(CONTENT))
    assert [part["part_number"] for part in state["received"]] == [1, 2]
    done = await complete(tenant.api, upload)
    assert done.status == 200, done.raw
    document = done.json
    assert (document["status"], document["size_bytes"], document["sha256"]) == ("queued", len(CONTENT), None)
    assert document["attributes"] == {"year": 2026}
    stored = await tenant.api.get(f"/v1/documents/{document['id']}/content")
    assert hashlib.sha256(stored.raw).digest() == hashlib.sha256(CONTENT).digest()
    after = await state_of(tenant.api, upload)
    assert (after["status"], after["document_id"], after["missing"]) == ("completed", document["id"], [])
    # The parts are joined into one file, so their etags are gone.
    assert after["received"] == [{**part, "etag": None} for part in state["received"]]
    assert after["received_bytes"] == len(CONTENT)
    assert (await complete(tenant.api, upload)).json["id"] == document["id"]


async def test_a_returning_client_sends_the_missing_parts(tenant: Tenant, admin: Api) -> None:
    upload = await open_upload(tenant.api)
    await put(tenant.api, upload, 2, part_of(CONTENT, 2))
    # A different client with a different key.
    again = Api(tenant.api.client, await make_key(admin, tenant.id, scopes=["upload"]))
    assert (await state_of(again, upload))["missing"] == [1]
    assert (await put(again, upload, 1, part_of(CONTENT, 1))).status == 200
    assert (await complete(again, upload)).status == 200


async def test_a_connection_lost_during_a_part_leaves_the_part_missing(tenant: Tenant) -> None:
    upload = await open_upload(tenant.api)

    async def cut_off() -> AsyncIterator[bytes]:
        yield part_of(CONTENT, 1)[: 3 * MIB]
        raise ConnectionResetError

    with pytest.raises(aiohttp.ClientError):
        await put(tenant.api, upload, 1, cut_off(), **{"Content-Length": str(PART)})
    assert (await state_of(tenant.api, upload))["missing"] == [1, 2]
    await send_all(tenant.api, upload)
    assert (await complete(tenant.api, upload)).status == 200


@pytest.mark.parametrize("size_bytes", [1, LEAST_PART, 2 * LEAST_PART, 2 * LEAST_PART + 1])
async def test_files_of_any_size_arrive_complete(tenant: Tenant, make_client: ClientMaker, size_bytes: int) -> None:
    api = Api(await make_client(upload_part_size_bytes=LEAST_PART), tenant.api.key)
    content = content_of(size_bytes)
    upload = await open_upload(api, size_bytes=size_bytes)
    assert upload["part_count"] == -(-size_bytes // LEAST_PART)
    for number in range(upload["part_count"], 0, -1):
        part = content[(number - 1) * LEAST_PART : number * LEAST_PART]
        assert (await put(api, upload, number, part)).status == 200
    document = (await complete(api, upload)).json
    assert (await api.get(f"/v1/documents/{document['id']}/content")).raw == content


async def test_a_part_cut_off_anywhere_is_not_received(tenant: Tenant) -> None:
    upload = await open_upload(tenant.api)
    chance = random.Random(3)  # noqa: S311
    for _cut in range(8):
        _reader, writer = await asyncio.open_connection(tenant.api.client.host, tenant.api.client.port)
        lines = "".join(f"{name}: {value}\r\n" for name, value in {**tenant.api.headers, "Host": "x"}.items())
        head = f"PUT /v1/uploads/{upload['id']}/parts/1 HTTP/1.1\r\n{lines}Content-Length: {PART}\r\n\r\n"
        writer.write(head.encode() + part_of(CONTENT, 1)[: chance.choice([1, 1000, chance.randrange(PART), PART - 1])])
        if chance.random() < 0.5:
            # An orderly close: all sent bytes arrive.
            writer.close()
        else:
            writer.transport.abort()
    assert (await state_of(tenant.api, upload))["received"] == []
    await send_all(tenant.api, upload)
    document = (await complete(tenant.api, upload)).json
    content = await tenant.api.get(f"/v1/documents/{document['id']}/content")
    assert hashlib.sha256(content.raw).digest() == hashlib.sha256(CONTENT).digest()


@pytest.mark.parametrize(
    ("number", "data", "status", "code"),
    [
        ("0", b"x", 422, "part_number_out_of_range"),
        ("3", b"x", 422, "part_number_out_of_range"),
        ("one", b"x", 422, "part_number_out_of_range"),
        ("9" * 30, b"x", 422, "part_number_out_of_range"),
        ("2", b"x" * 999, 400, "part_size_mismatch"),
        ("2", b"x" * 1001, 400, "part_size_mismatch"),
        ("2", b"", 400, "part_size_mismatch"),
    ],
)
async def test_an_invalid_part_is_refused(tenant: Tenant, number: str, data: bytes, status: int, code: str) -> None:
    upload = await open_upload(tenant.api)
    response = await tenant.api.call("PUT", f"/v1/uploads/{upload['id']}/parts/{number}", data=data)
    assert response.is_problem(status, code), response.raw
    assert (await state_of(tenant.api, upload))["received"] == []


@pytest.mark.parametrize("size_bytes", [999, 1001])
async def test_a_part_of_unknown_length_is_measured_while_it_streams(tenant: Tenant, size_bytes: int) -> None:
    upload = await open_upload(tenant.api)

    async def chunked() -> AsyncIterator[bytes]:
        yield b"x" * size_bytes

    assert (await put(tenant.api, upload, 2, chunked())).is_problem(400, "part_size_mismatch")
    assert (await state_of(tenant.api, upload))["received"] == []


def digest(name: str, data: bytes) -> str:
    return base64.b64encode(hashlib.new(name, data, usedforsecurity=False).digest()).decode()


async def test_declared_digests_are_checked_before_the_part_is_stored(tenant: Tenant) -> None:
    upload = await open_upload(tenant.api)
    part = part_of(CONTENT, 2)
    right = {
        "Content-MD5": digest("md5", part),
        "Repr-Digest": f"sha-256=:{digest('sha256', part)}:, sha-512=:{digest('sha512', part)}:",
    }
    for header, wrong in (
        ("Content-MD5", digest("md5", b"other")),
        ("Repr-Digest", f"sha-256=:{digest('sha256', b'other')}:"),
    ):
        response = await put(tenant.api, upload, 2, part, **{**right, header: wrong})
        assert response.is_problem(400, "digest_mismatch"), response.raw
    assert (await state_of(tenant.api, upload))["received"] == []
    for header, malformed in (("Content-MD5", "nonsense"), ("Repr-Digest", "md5=:AAAA:"), ("Repr-Digest", "sha-256")):
        response = await put(tenant.api, upload, 2, part, **{header: malformed})
        assert response.is_problem(422, "invalid_request"), response.raw
    assert (await put(tenant.api, upload, 2, part, **right)).status == 200


async def test_sending_a_part_again_replaces_it(tenant: Tenant) -> None:
    upload = await open_upload(tenant.api, size_bytes=5)
    assert (await put(tenant.api, upload, 1, b"wrong")).status == 200
    assert (await put(tenant.api, upload, 1, b"right")).status == 200
    document = (await complete(tenant.api, upload)).json
    assert (await tenant.api.get(f"/v1/documents/{document['id']}/content")).raw == b"right"


async def test_a_part_sent_twice_counts_once(tenant: Tenant, resources: Resources) -> None:
    upload = await open_upload(tenant.api)
    first = await put(tenant.api, upload, 1, part_of(CONTENT, 1))
    again = await put(tenant.api, upload, 1, part_of(CONTENT, 1))
    assert (again.status, again.json) == (200, first.json)
    state = await state_of(tenant.api, upload)
    assert (state["received_bytes"], state["missing"]) == (PART, [2])
    assert (await put(tenant.api, upload, 2, part_of(CONTENT, 2))).status == 200
    document = (await complete(tenant.api, upload)).json
    assert (await tenant.api.get(f"/v1/documents/{document['id']}/content")).raw == CONTENT
    assert await resources.storage.list_multiparts(tenant.bucket) == []
    assert await resources.storage.count_objects(tenant.bucket) == 1
    async with resources.pool.acquire() as conn:
        assert await upload_sessions.sum_reserved_bytes(conn, tenant.uuid) == 0


async def test_completing_names_the_missing_parts_and_can_be_repeated(tenant: Tenant) -> None:
    upload = await open_upload(tenant.api)
    await put(tenant.api, upload, 2, part_of(CONTENT, 2))
    response = await complete(tenant.api, upload)
    assert response.is_problem(409, "parts_missing")
    assert response.json["missing"] == [1]
    assert (await state_of(tenant.api, upload))["status"] == "pending"
    await send_all(tenant.api, upload)
    assert (await complete(tenant.api, upload)).status == 200


async def test_concurrent_completions_have_one_effect_and_one_response(tenant: Tenant) -> None:
    upload = await open_upload(tenant.api)
    await send_all(tenant.api, upload)
    responses = await asyncio.gather(*(complete(tenant.api, upload) for _ in range(32)))
    assert {response.status for response in responses} == {200}
    assert len({response.json["id"] for response in responses}) == 1
    assert len((await tenant.api.get("/v1/documents")).json["data"]) == 1


async def test_an_aborted_upload_leaves_nothing_in_the_store(tenant: Tenant, resources: Resources) -> None:
    upload = await open_upload(tenant.api)
    await put(tenant.api, upload, 1, part_of(CONTENT, 1))
    assert (await tenant.api.delete(f"/v1/uploads/{upload['id']}")).status == 204
    assert (await tenant.api.delete(f"/v1/uploads/{upload['id']}")).status == 204
    assert (await state_of(tenant.api, upload))["status"] == "aborted"
    assert await resources.storage.list_multiparts(tenant.bucket) == []
    assert (await put(tenant.api, upload, 1, part_of(CONTENT, 1))).is_problem(409, "upload_not_pending")
    assert (await complete(tenant.api, upload)).is_problem(409, "upload_not_pending")
    asked = await tenant.api.post(f"/v1/uploads/{upload['id']}/part-urls", {"part_numbers": [1]})
    assert asked.is_problem(409, "upload_not_pending")


async def test_a_completed_upload_cannot_be_aborted(tenant: Tenant) -> None:
    upload = await open_upload(tenant.api, size_bytes=1)
    await put(tenant.api, upload, 1, b"x")
    await complete(tenant.api, upload)
    assert (await tenant.api.delete(f"/v1/uploads/{upload['id']}")).is_problem(409, "upload_not_pending")


async def test_an_unfinished_upload_expires_and_releases_its_quota(tenant: Tenant, resources: Resources) -> None:
    upload = await open_upload(tenant.api)
    await put(tenant.api, upload, 1, part_of(CONTENT, 1))
    async with resources.pool.acquire() as conn:
        await conn.execute(
            "UPDATE upload_sessions SET expires_at = now() - interval '1 second' WHERE id = $1",
            parse_id("upl", upload["id"]),
        )
    await sweep_uploads(resources)
    assert (await state_of(tenant.api, upload))["status"] == "expired"
    assert await resources.storage.list_multiparts(tenant.bucket) == []
    assert await reserved_bytes(tenant, resources) == 0


async def test_a_multipart_upload_aborted_outside_the_service_fails_the_session(
    tenant: Tenant, resources: Resources
) -> None:
    upload = await open_upload(tenant.api)
    (multipart,) = await resources.storage.list_multiparts(tenant.bucket)
    await resources.storage.abort_multipart(tenant.bucket, multipart.object_key, upload_id=multipart.upload_id)
    assert (await complete(tenant.api, upload)).is_problem(409, "upload_not_pending")
    state = await state_of(tenant.api, upload)
    assert (state["status"], state["error"]["code"]) == ("failed", "upload_lost")
    assert await reserved_bytes(tenant, resources) == 0
    assert (await tenant.api.get("/v1/documents")).json["data"] == []


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"size_bytes": 0}, 422, "empty_file"),
        ({"size_bytes": 6 * 1024**3}, 413, "too_large"),
        ({"size_bytes": -1}, 422, "invalid_request"),
        ({"size_bytes": "7"}, 422, "invalid_request"),
        ({"filename": ""}, 422, "invalid_request"),
        ({"sha256": "abc"}, 422, "invalid_request"),
        ({"surprise": 1}, 422, "invalid_request"),
        ({"chunking": {"max_tokens": 32, "overlap_tokens": 32}}, 422, "invalid_request"),
        ({"collection_id": "col_" + "0" * 32}, 404, "not_found"),
    ],
)
async def test_an_invalid_request_opens_no_session(
    tenant: Tenant, fields: dict[str, object], status: int, code: str
) -> None:
    response = await tenant.api.post("/v1/uploads", {"filename": "a.txt", "size_bytes": 1, **fields})
    assert response.is_problem(status, code), response.raw
    assert (await tenant.api.get("/v1/uploads")).json["data"] == []


async def test_open_uploads_reserve_their_declared_size(tenant: Tenant, resources: Resources) -> None:
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE workspaces SET quota_bytes = 1000 WHERE id = $1", tenant.uuid)
    responses = await asyncio.gather(
        *(tenant.api.post("/v1/uploads", {"filename": "a.txt", "size_bytes": 300}) for _ in range(8))
    )
    opened = [response.json for response in responses if response.status == 201]
    assert len(opened) == 3
    assert all(response.is_problem(413, "quota_exceeded") for response in responses if response.status != 201)
    await tenant.api.delete(f"/v1/uploads/{opened[0]['id']}")
    assert (await tenant.api.post("/v1/uploads", {"filename": "a.txt", "size_bytes": 300})).status == 201


async def test_uploads_are_listed_by_status_and_page(tenant: Tenant) -> None:
    opened = [await open_upload(tenant.api, size_bytes=1) for _ in range(3)]
    await tenant.api.delete(f"/v1/uploads/{opened[0]['id']}")
    pending = (await tenant.api.get("/v1/uploads?status=pending&limit=1")).json
    assert [upload["id"] for upload in pending["data"]] == [opened[2]["id"]]
    rest = (await tenant.api.get(f"/v1/uploads?status=pending&cursor={pending['next_cursor']}")).json
    assert [upload["id"] for upload in rest["data"]] == [opened[1]["id"]]
    assert (await tenant.api.get("/v1/uploads?status=none")).is_problem(422, "invalid_request")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/complete"),
        ("PUT", "/parts/1"),
        ("POST", "/part-urls"),
    ],
)
async def test_another_workspaces_upload_is_not_found(tenant: Tenant, other: Tenant, method: str, path: str) -> None:
    upload = await open_upload(tenant.api, size_bytes=1)
    options: dict[str, Any] = {"json": {"part_numbers": [1]}} if path == "/part-urls" else {}
    options = {"data": b"x"} if path == "/parts/1" else options
    for upload_id in (upload["id"], "upl_" + "0" * 32, "upl_1"):
        response = await other.api.call(method, f"/v1/uploads/{upload_id}{path}", **options)
        assert response.is_problem(404, "not_found"), response.raw


@pytest.mark.parametrize(
    "filename", ["../../etc/passwd", "a\\b\\c.txt", "\u202egpj.exe.txt", "x" * 300 + ".txt", "a\r\nb.txt"]
)
async def test_a_hostile_filename_is_harmless(tenant: Tenant, filename: str) -> None:
    upload = await open_upload(tenant.api, size_bytes=1, filename=filename)
    assert len(upload["filename"]) <= 255
    assert not set(upload["filename"]) & set("/\\\r\n\u202e")


async def test_a_filename_with_nul_is_refused(tenant: Tenant) -> None:
    response = await tenant.api.post("/v1/uploads", {"filename": "a\0b.txt", "size_bytes": 1})
    assert response.is_problem(422, "invalid_request")
    assert (await tenant.api.get("/v1/uploads")).json["data"] == []


@pytest.mark.parametrize("rival", ["abort", "expiry"])
async def test_a_completion_and_a_concurrent_abort_or_expiry_have_one_winner(
    tenant: Tenant, resources: Resources, rival: str
) -> None:
    for _ in range(5):
        upload = await open_upload(tenant.api, size_bytes=1)
        await put(tenant.api, upload, 1, b"x")

        async def end(upload_id: str = upload["id"]) -> Any:
            if rival == "abort":
                return await tenant.api.delete(f"/v1/uploads/{upload_id}")
            async with resources.pool.acquire() as conn:
                await conn.execute("UPDATE upload_sessions SET expires_at = now() WHERE status = 'pending'")
            return await sweep_uploads(resources)

        done, _ended = await asyncio.gather(complete(tenant.api, upload), end())
        state = await state_of(tenant.api, upload)
        if done.status == 200:
            assert state["status"] == "completed"
            content = await tenant.api.get(f"/v1/documents/{done.json['id']}/content")
            assert (content.status, content.raw) == (200, b"x")
        else:
            assert done.is_problem(409, "upload_not_pending")
            assert state["status"] == {"abort": "aborted", "expiry": "expired"}[rival]
            await sweep_uploads(resources)
    assert await resources.storage.list_multiparts(tenant.bucket) == []
    documents = (await tenant.api.get("/v1/documents")).json["data"]
    assert await resources.storage.count_objects(tenant.bucket) == len(documents)


async def test_a_part_sent_while_the_upload_completes_changes_nothing(tenant: Tenant) -> None:
    upload = await open_upload(tenant.api, size_bytes=5)
    await put(tenant.api, upload, 1, b"first")
    done, late = await asyncio.gather(complete(tenant.api, upload), put(tenant.api, upload, 1, b"later"))
    assert late.status in {200, 409}
    done = done if done.status == 200 else await complete(tenant.api, upload)
    content = (await tenant.api.get(f"/v1/documents/{done.json['id']}/content")).raw
    assert content == (await tenant.api.get(f"/v1/documents/{done.json['id']}/content")).raw
    assert content in {b"first", b"later"}

"""Upload tokens, and the Companion endpoints that @uppy/aws-s3 calls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
from structlog.testing import capture_logs

from ragsvc.http.contract.ids import parse_id
from tests.http.companion.support import Companion, companion_of
from tests.http.conftest import Api, ApiResponse, make_key
from tests.http.support.uploads import MIB, content_of, make_token, reserved_bytes
from tests.support.polling import until

if TYPE_CHECKING:
    from ragsvc.resources import Resources
    from tests.http.conftest import ClientMaker, Tenant

PART = 5 * MIB
CONTENT = content_of(PART + 1000)


async def test_parts_of_unknown_size_become_a_document_in_the_tokens_collection(
    tenant: Tenant, resources: Resources
) -> None:
    collection = (await tenant.api.post("/v1/collections", {"name": "inbox"})).json
    companion = await companion_of(tenant.api, collection_id=collection["id"])
    opened = await companion.open("../../kettles.txt")
    await companion.put(opened, 1, CONTENT[:PART])
    listed = await companion.call("GET", opened)
    assert [(part["PartNumber"], part["Size"]) for part in listed.json] == [(1, PART)]
    await companion.put(opened, 2, CONTENT[PART:])
    done = await companion.complete(opened, 2)
    assert done.status == 200, done.raw
    document = (await tenant.api.get(urlsplit(done.json["location"]).path)).json
    assert (document["filename"], document["collection_id"]) == ("kettles.txt", collection["id"])
    assert (await tenant.api.get(f"/v1/documents/{document['id']}/content")).raw == CONTENT
    assert (await companion.complete(opened, 2)).json == done.json
    # A page that lost the response need not send the parts again.
    assert [part["PartNumber"] for part in (await companion.call("GET", opened)).json] == [1, 2]
    assert await resources.storage.list_multiparts(tenant.bucket) == []


async def test_a_small_file_is_uploaded_with_a_form(tenant: Tenant) -> None:
    companion = await companion_of(tenant.api, max_bytes=100)
    params = (await companion.api.get(f"{companion.path}/s3/params?filename=k.txt&type=text/plain&metadata[a]=b")).json
    assert params["method"] == "POST"

    async def send(content: bytes) -> ApiResponse:
        form = aiohttp.FormData()
        for name, value in params["fields"].items():
            form.add_field(name, value)
        form.add_field("file", content, filename="blob")
        return await companion.api.call("POST", urlsplit(params["url"]).path, data=form)

    done = await send(b"Kettles boil water.")
    assert done.status == 201, done.raw
    assert done.headers["Location"] == done.json["location"]
    document = (await tenant.api.get(urlsplit(done.json["location"]).path)).json
    assert (document["filename"], document["mime_type"], document["size_bytes"]) == ("k.txt", "text/plain", 19)
    assert done.headers["ETag"] == f'"{document["sha256"]}"'
    assert (await send(b"")).is_problem(422, "empty_file")
    assert (await send(b"x" * 101)).is_problem(413, "too_large")


async def test_a_token_gives_access_only_to_its_own_uploads(tenant: Tenant, other: Tenant) -> None:
    token = await make_token(tenant.api)
    holder = Api(tenant.api.client, token["token"])
    assert (await holder.get("/v1/workspace")).is_problem(401, "unauthorized")
    native = (await tenant.api.post("/v1/uploads", {"filename": "a", "size_bytes": 1})).json
    companion = Companion(tenant.api.client, token["companion_url"])
    opened = await companion.open()
    theirs = await companion_of(other.api)
    inbox = (await tenant.api.post("/v1/collections", {"name": "inbox"})).json
    elsewhere = await companion_of(tenant.api, collection_id=inbox["id"])
    path = f"{companion.path}/s3/multipart/{native['id']}?key=objects%2F{native['id'].removeprefix('upl_')}"
    assert (await companion.api.get(path)).is_problem(404, "not_found")
    for stranger in (theirs, elsewhere):
        for method, rest in (("GET", ""), ("GET", "/1"), ("DELETE", "")):
            assert (await stranger.call(method, opened, rest)).is_problem(404, "not_found")
        assert (await stranger.complete(opened, 1)).is_problem(404, "not_found")
    wrong_key = await companion.api.get(f"{companion.path}/s3/multipart/{opened.json['uploadId']}?key=x")
    assert wrong_key.is_problem(404, "not_found")
    # After a reload, the page has a new token issued for the same key.
    assert (await (await companion_of(tenant.api)).call("GET", opened)).status == 200


async def test_a_token_is_invalid_after_its_expiry_and_after_its_key_is_revoked(
    tenant: Tenant, admin: Api, resources: Resources
) -> None:
    key = await make_key(admin, tenant.id, scopes=["upload"])
    companion = await companion_of(Api(tenant.api.client, key))
    assert (await companion.open()).status == 200
    keys = (await admin.get(f"/v1/workspaces/{tenant.id}/keys")).json["data"]
    mine = next(one for one in keys if key.startswith(one["key_prefix"]))
    assert (await admin.delete(f"/v1/workspaces/{tenant.id}/keys/{mine['id']}")).status == 204
    assert (await companion.open()).is_problem(401, "unauthorized")
    companion = await companion_of(tenant.api, ttl_s=60)
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE upload_tokens SET expires_at = now() WHERE workspace_id = $1", tenant.uuid)
    assert (await companion.open()).is_problem(401, "unauthorized")
    await make_token(tenant.api)
    async with resources.pool.acquire() as conn:
        assert await conn.fetchval("SELECT count(*) FROM upload_tokens WHERE workspace_id = $1", tenant.uuid) == 1


async def test_only_keys_with_the_upload_scope_create_tokens(tenant: Tenant, admin: Api) -> None:
    reader = Api(tenant.api.client, await make_key(admin, tenant.id, scopes=["read", "chat"]))
    assert (await reader.post("/v1/upload-tokens", {})).is_problem(403, "forbidden")
    for fields in ({"ttl_s": 86401}, {"ttl_s": 0}, {"max_bytes": 0}, {"surprise": 1}):
        assert (await tenant.api.post("/v1/upload-tokens", fields)).is_problem(422, "invalid_request")
    unknown = {"collection_id": "col_" + "0" * 32}
    assert (await tenant.api.post("/v1/upload-tokens", unknown)).is_problem(404, "not_found")
    assert (await tenant.api.post("/v1/upload-tokens")).status == 201


async def test_no_more_than_the_limit_of_the_token_is_stored(tenant: Tenant, resources: Resources) -> None:
    companion = await companion_of(tenant.api, max_bytes=PART)
    assert (await companion.open(size=PART + 1)).is_problem(413, "too_large")
    opened = await companion.open()
    assert (await companion.call("GET", opened, "/2")).is_problem(413, "too_large")
    await companion.put(opened, 1, b"x" * (PART + 1), status=413)
    await companion.put(opened, 1, b"x" * 1000)
    # A part that is sent again replaces the earlier one.
    await companion.put(opened, 1, b"y" * PART)
    assert (await companion.call("PUT", opened, "/2", data=b"z")).is_problem(413, "too_large")
    assert (await companion.call("GET", opened)).json[0]["Size"] == PART
    done = await companion.complete(opened, 1)
    assert done.status == 200, done.raw
    assert await resources.storage.list_multiparts(tenant.bucket) == []


async def test_the_store_accepts_only_the_declared_size(tenant: Tenant, resources: Resources) -> None:
    companion = await companion_of(tenant.api)
    opened = await companion.open(size=len(CONTENT))
    await companion.put(opened, 1, CONTENT, status=403)
    await companion.put(opened, 1, CONTENT[:PART])
    await companion.put(opened, 2, CONTENT[:PART], status=403)
    assert (await companion.call("GET", opened, "/3")).is_problem(422, "part_number_out_of_range")
    await companion.put(opened, 2, CONTENT[PART:])
    done = await companion.complete(opened, 2)
    assert (await tenant.api.get(f"/v1/documents/{done.json['document_id']}/content")).raw == CONTENT
    assert await resources.storage.list_multiparts(tenant.bucket) == []


async def test_open_uploads_reserve_what_is_declared_or_received(tenant: Tenant, resources: Resources) -> None:
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE workspaces SET quota_bytes = 1000 WHERE id = $1", tenant.uuid)
    companion = await companion_of(tenant.api)
    declared = await companion.open(size="600")
    assert (await companion.open(size=600)).is_problem(413, "quota_exceeded")
    unknown, second = await companion.open(), await companion.open()
    await companion.put(unknown, 1, b"x" * 600, status=413)
    await companion.put(unknown, 1, b"x" * 300)
    # Sessions of unknown size cannot exceed the quota together either.
    await companion.put(second, 1, b"x" * 300, status=413)
    assert (await companion.call("DELETE", declared)).json == {}
    await companion.put(second, 1, b"x" * 300)
    assert (await companion.complete(unknown, 1)).status == 200
    await companion.put(second, 1, b"x" * 701, status=413)
    await companion.put(second, 1, b"x" * 700)


async def test_a_part_that_does_not_arrive_reserves_nothing(tenant: Tenant, resources: Resources) -> None:
    companion = await companion_of(tenant.api, max_bytes=1000)
    opened = await companion.open()
    url = (await companion.call("GET", opened, "/1")).json["url"]
    _reader, writer = await asyncio.open_connection(tenant.api.client.host, tenant.api.client.port)
    target = url.partition(str(tenant.api.client.make_url("/")))[2]
    writer.write(f"PUT /{target} HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\nbeginning".encode())

    async def reserves(size_bytes: int) -> bool:
        return await reserved_bytes(tenant, resources) == size_bytes

    await until(lambda: reserves(900), what="the reservation")
    writer.close()
    await until(lambda: reserves(0), what="the end of the reservation")
    await companion.put(opened, 1, b"x" * 1000)
    assert await reserved_bytes(tenant, resources) == 1000


async def test_the_tokens_of_a_key_share_one_rate(make_client: ClientMaker, tenant: Tenant) -> None:
    limited = Api(await make_client(rate_limit_rps=0.001, rate_limit_burst=2), tenant.api.key)
    first, second = await companion_of(limited), await companion_of(limited)
    assert {(await one.open()).status for one in (first, second)} == {200}
    assert (await first.open()).is_problem(429, "rate_limited")
    assert (await second.open()).is_problem(429, "rate_limited")


async def test_an_upload_with_missing_or_wrong_parts_is_not_completed(tenant: Tenant) -> None:
    companion = await companion_of(tenant.api)
    opened = await companion.open()
    assert (await companion.complete(opened, 1)).is_problem(409, "parts_missing")
    await companion.put(opened, 2, b"x")
    assert (await companion.complete(opened, 2)).json["missing"] == [1]
    await companion.put(opened, 1, b"small")
    assert (await companion.complete(opened, 2)).is_problem(400, "part_size_mismatch")
    await companion.put(opened, 1, CONTENT[:PART])
    assert (await companion.complete(opened, 3)).json["missing"] == [3]
    declared = await companion.open(size=7)
    await companion.put(declared, 1, b"eight...", status=403)
    assert (await companion.complete(declared, 1)).is_problem(409, "parts_missing")
    assert (await companion.call("GET", declared, "/10001")).is_problem(422, "part_number_out_of_range")
    responses = await asyncio.gather(*(companion.complete(opened, 2) for _ in range(8)))
    assert len({response.json["document_id"] for response in responses}) == 1


async def test_the_key_of_a_token_can_read_abort_and_complete_its_uploads(tenant: Tenant, resources: Resources) -> None:
    companion = await companion_of(tenant.api)
    opened = await companion.open()
    await companion.put(opened, 1, b"Kettles.")
    path = f"/v1/uploads/{opened.json['uploadId']}"
    seen = (await tenant.api.get(path)).json
    assert (seen["status"], seen["part_count"], seen["received_bytes"]) == ("pending", 0, 8)
    assert (await tenant.api.call("PUT", f"{path}/parts/1", data=b"x")).is_problem(422, "part_number_out_of_range")
    assert (await tenant.api.delete(path)).status == 204
    assert (await companion.call("GET", opened, "/1")).is_problem(409, "upload_not_pending")
    assert await resources.storage.list_multiparts(tenant.bucket) == []
    again = await companion.open()
    await companion.put(again, 1, b"Kettles.")
    assert (await tenant.api.post(f"/v1/uploads/{again.json['uploadId']}/complete")).json["size_bytes"] == 8
    assert parse_id("upl", again.json["uploadId"])


async def test_a_token_is_never_logged(tenant: Tenant) -> None:
    with capture_logs() as logs:
        token = await make_token(tenant.api)
        companion = Companion(tenant.api.client, token["companion_url"])
        await companion.open()
        await companion.api.get(f"{companion.path}/s3/nothing")
    assert any("/companion/…/s3/multipart" in str(entry) for entry in logs)
    assert token["token"] not in str(logs)


async def test_the_companion_url_uses_public_url(make_client: ClientMaker, tenant: Tenant) -> None:
    behind = await make_client(public_url="https://rag.example/api")
    token = await make_token(Api(behind, tenant.api.key))
    assert token["companion_url"] == f"https://rag.example/api/companion/{token['token']}"

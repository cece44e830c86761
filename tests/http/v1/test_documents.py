"""Documents over HTTP: uploads, lists, changes and deletions."""

from __future__ import annotations

import asyncio
import hashlib
import io
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import aiohttp
import pytest
import structlog

from ragsvc.db import documents, files
from ragsvc.domain.documents import Stage
from ragsvc.domain.ids import format_id
from ragsvc.http.contract.ids import parse_id
from ragsvc.http.state import RESOURCES
from ragsvc.shares import LARGEST_SHARE
from tests.http.conftest import Api, make_key, make_tenant, operator_of
from tests.http.support.documents import form, show_failure, show_stage
from tests.support.polling import until

if TYPE_CHECKING:
    from ragsvc.resources import Resources
    from tests.http.conftest import ApiResponse, Client, ClientMaker, Tenant

PART = 5 * 1024 * 1024
FIELDS = {
    *("id", "object", "collection_id", "file_id", "filename", "mime_type", "size_bytes", "sha256", "status", "stage"),
    *("progress", "searchable", "version", "chunk_count", "token_count", "attributes", "error", "warnings"),
    "embedding_space",
    *("created_at", "updated_at"),
}


async def send(tenant: Tenant, data: aiohttp.FormData) -> ApiResponse:
    """Post a form."""
    return await tenant.api.call("POST", "/v1/documents", data=data)


async def begin_upload(api: Api) -> asyncio.StreamWriter:
    """Send the first bytes of a large file."""
    _reader, writer = await asyncio.open_connection(api.client.host, api.client.port)
    writer.write(
        f"POST /v1/documents HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.key}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000000\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nthe beginning'.encode()
    )
    return writer


async def create_collection(tenant: Tenant, name: str) -> str:
    """Create a collection and return its id."""
    return str((await tenant.api.post("/v1/collections", {"name": name})).json["id"])


async def assert_nothing_is_stored(resources: Resources, tenant: Tenant) -> None:
    """Assert that a refused upload left neither rows nor objects."""
    async with resources.pool.acquire() as conn:
        assert await documents.select_documents(conn, tenant.uuid, documents.ListedDocuments(), limit=10) == []
        assert await files.select_files(conn, tenant.uuid, limit=10) == []
    assert await resources.storage.count_objects(tenant.bucket) == 0
    assert await resources.storage.list_multiparts(tenant.bucket) == []


async def test_an_uploaded_document_is_accepted_and_shown(tenant: Tenant) -> None:
    content = b"Kettles boil water."
    response = await send(
        tenant, form(content, filename="../Ünïcode kettles.md", attributes='{"year": 2026, "ok": true}')
    )
    assert response.status == 202
    document = response.json
    assert set(document) == FIELDS
    (default,) = (await tenant.api.get("/v1/collections")).json["data"]
    expected = {
        "object": "document",
        "collection_id": default["id"],
        "filename": "Ünïcode kettles.md",
        "mime_type": "text/markdown",
        "size_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "status": "queued",
        "version": 0,
        "chunk_count": 0,
        "attributes": {"year": 2026, "ok": True},
        "error": None,
    }
    assert {name: document[name] for name in expected} == expected
    assert (await tenant.api.get(f"/v1/documents/{document['id']}")).json == document


async def test_a_form_can_name_its_collection_before_or_after_the_file(tenant: Tenant) -> None:
    collection_id = await create_collection(tenant, "manuals")
    after = await send(tenant, form(b"after", collection_id=collection_id))
    data = aiohttp.FormData()
    data.add_field("collection_id", collection_id)
    data.add_field("file", io.BytesIO(b"before"), filename="before.txt")
    before = await send(tenant, data)
    assert (after.status, before.status) == (202, 202)
    assert after.json["collection_id"] == before.json["collection_id"] == collection_id


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"attributes": "{"}, 422, "invalid_request"),
        ({"attributes": '{"a": []}'}, 422, "invalid_request"),
        ({"colection_id": "x"}, 422, "invalid_request"),
        ({"collection_id": "nonsense"}, 422, "invalid_request"),
        ({"collection_id": "col_nonsense"}, 404, "not_found"),
        ({"collection_id": format_id("col", UUID(int=7))}, 404, "not_found"),
    ],
)
async def test_an_invalid_form_stores_nothing(
    tenant: Tenant, resources: Resources, fields: dict[str, str], status: int, code: str
) -> None:
    assert (await send(tenant, form(b"content", **fields))).is_problem(status, code)
    await assert_nothing_is_stored(resources, tenant)


async def test_another_workspaces_collection_accepts_no_document(
    tenant: Tenant, other: Tenant, resources: Resources
) -> None:
    foreign = await create_collection(other, "theirs")
    assert (await send(tenant, form(b"content", collection_id=foreign))).is_problem(404, "not_found")
    await assert_nothing_is_stored(resources, tenant)
    await assert_nothing_is_stored(resources, other)


async def test_an_empty_file_is_refused(tenant: Tenant, resources: Resources) -> None:
    assert (await send(tenant, form(b""))).is_problem(422, "empty_file")
    await assert_nothing_is_stored(resources, tenant)


async def test_a_form_without_a_file_is_refused(tenant: Tenant) -> None:
    data = aiohttp.FormData({"attributes": "{}"})
    response = await tenant.api.call("POST", "/v1/documents", data=data)
    assert response.status in {415, 422}
    multipart = aiohttp.FormData(default_to_multipart=True)
    multipart.add_field("attributes", "{}")
    assert (await send(tenant, multipart)).is_problem(422, "invalid_request")


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "unannounced"])
async def test_a_file_over_the_limit_is_refused_and_leaves_nothing(
    make_client: ClientMaker, resources: Resources, *, chunked: bool
) -> None:
    client = await make_client(max_document_bytes=100_000)
    tenant = await make_tenant(client, operator_of(client), "small")
    content = bytes(100_001) if chunked else bytes(1_200_000)
    response = await tenant.api.call("POST", "/v1/documents", data=form(content), chunked=chunked or None)
    assert response.is_problem(413, "too_large")
    assert "100000" in response.json["detail"]
    await assert_nothing_is_stored(resources, tenant)


async def test_a_workspace_over_its_quota_accepts_no_upload(make_client: ClientMaker, resources: Resources) -> None:
    client = await make_client(workspace_quota_bytes=1000)
    tenant = await make_tenant(client, operator_of(client), "small")
    assert (await send(tenant, form(bytes(1001)))).is_problem(413, "quota_exceeded")
    await assert_nothing_is_stored(resources, tenant)
    assert (await send(tenant, form(bytes(1000)))).status == 202


@pytest.mark.parametrize("sent_bytes", [1, 300_000, 9_000_000])
async def test_an_interrupted_upload_leaves_nothing(tenant: Tenant, resources: Resources, sent_bytes: int) -> None:
    client = tenant.api.client
    head = (
        f"POST /v1/documents HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {tenant.api.key}\r\n"
        "Content-Length: 20000000\r\nContent-Type: multipart/form-data; boundary=b\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="file"; filename="cut.txt"\r\n\r\n'
    )
    with structlog.testing.capture_logs() as logs:
        _reader, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(head.encode() + b"x" * sent_bytes)
        await writer.drain()
        writer.close()
        finished = await until(lambda: [entry for entry in logs if entry["event"] == "request_finished"])
    assert [entry["status"] for entry in finished] == [499]
    assert [entry for entry in logs if entry["log_level"] == "error"] == []
    await assert_nothing_is_stored(resources, tenant)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/mixed"])
async def test_another_content_type_is_refused(tenant: Tenant, content_type: str) -> None:
    headers = {"Content-Type": f"{content_type}; boundary=x"}
    response = await tenant.api.call("POST", "/v1/documents", data=b"content", headers=headers)
    assert response.is_problem(415, "unsupported_media_type")


async def test_a_stored_file_becomes_a_document_of_another_collection_once(tenant: Tenant) -> None:
    document = await tenant.upload()
    body = {
        "file_id": document["file_id"],
        "collection_id": await create_collection(tenant, "copies"),
        "attributes": {"copy": True},
    }
    response = await tenant.api.post("/v1/documents", body)
    assert response.status == 202
    assert response.json["id"] != document["id"]
    assert (response.json["sha256"], response.json["attributes"]) == (document["sha256"], {"copy": True})
    assert (await tenant.api.post("/v1/documents", body)).is_problem(409, "document_exists")


async def test_documents_are_listed_newest_first_page_by_page(tenant: Tenant) -> None:
    created = [(await tenant.upload(f"text {number}".encode()))["id"] for number in range(5)]
    seen: list[str] = []
    path: str | None = "/v1/documents?limit=2"
    while path is not None:
        page = (await tenant.api.get(path)).json
        seen += [document["id"] for document in page["data"]]
        path = f"/v1/documents?limit=2&cursor={page['next_cursor']}" if page["next_cursor"] else None
    assert seen == created[::-1]


async def test_documents_are_listed_by_collection_and_status(
    tenant: Tenant, resources: Resources, ready: dict[str, Any]
) -> None:
    collection_id = await create_collection(tenant, "manuals")
    queued = (await send(tenant, form(b"queued", collection_id=collection_id))).json
    failed = await tenant.upload(b"failed")
    await show_failure(resources, tenant.uuid, parse_id("doc", failed["id"]))

    async def listed(query: str) -> set[str]:
        return {document["id"] for document in (await tenant.api.get(f"/v1/documents?{query}")).json["data"]}

    assert await listed(f"collection_id={collection_id}") == {queued["id"]}
    assert await listed("status=ready") == {ready["id"]}
    assert await listed("status=failed") == {failed["id"]}
    assert await listed(f"collection_id={collection_id}&status=ready") == set()


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=done", "status"),
        ("status=", "status"),
        ("collection_id=nonsense", "collection_id"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("cursor=made-up", "cursor"),
        ("cursor=", "cursor"),
        ("page=2", "page"),
        ("limit=1&limit=2", "limit"),
        ("status=%00", "status"),
    ],
)
async def test_an_invalid_query_is_refused(tenant: Tenant, query: str, field: str) -> None:
    response = await tenant.api.get(f"/v1/documents?{query}")
    assert response.is_problem(422, "invalid_request")
    assert [error["field"] for error in response.json["errors"]] == [field]


async def test_attributes_are_replaced(tenant: Tenant) -> None:
    document = (await send(tenant, form(b"content", attributes='{"a": 1, "b": 2}'))).json
    path = f"/v1/documents/{document['id']}"
    changed = (await tenant.api.patch(path, {"attributes": {"c": "three"}})).json
    assert changed["attributes"] == {"c": "three"}
    assert (await tenant.api.get(path)).json == changed
    wrong_changes: list[dict[str, object]] = [
        {},
        {"attributes": None},
        {"attributes": {"a": []}},
        {"attributes": {}, "filename": "x"},
    ]
    for wrong in wrong_changes:
        assert (await tenant.api.patch(path, wrong)).is_problem(422, "invalid_request")
    assert (await tenant.api.get(path)).json == changed


async def test_a_document_shows_its_stage_and_why_it_failed(tenant: Tenant, resources: Resources) -> None:
    document = await tenant.upload()
    path, document_id = f"/v1/documents/{document['id']}", parse_id("doc", document["id"])
    await show_stage(resources, tenant.uuid, document_id, Stage.EMBEDDING)
    shown = (await tenant.api.get(path)).json
    assert (shown["status"], shown["stage"], shown["progress"]) == ("processing", "embedding", 0.25)
    await show_failure(resources, tenant.uuid, document_id)
    shown = (await tenant.api.get(path)).json
    assert shown["status"] == "failed"
    assert shown["error"] == {
        "code": "encrypted",
        "message": "the file needs a password",
        "retryable": False,
        "next_attempt_at": None,
    }


async def test_a_deleted_document_is_shown_as_deleting_until_it_is_gone(tenant: Tenant, resources: Resources) -> None:
    document = await tenant.upload()
    path = f"/v1/documents/{document['id']}"
    response = await tenant.api.delete(path)
    assert response.status == 202
    assert response.json == {
        "deletion_id": response.json["deletion_id"],
        "document_id": document["id"],
        "status": "deleting",
    }
    assert (await tenant.api.get(path)).json["status"] == "deleting"
    assert (await tenant.api.delete(path)).json == response.json
    assert (await tenant.api.patch(path, {"attributes": {}})).is_problem(409, "document_deleting")
    async with resources.pool.acquire() as conn:
        await documents.delete_documents(conn, tenant.uuid, [parse_id("doc", document["id"])])
    assert (await tenant.api.get(path)).is_problem(404, "not_found")
    # A client that lost the first response gets the same deletion.
    again = await tenant.api.delete(path)
    assert (again.status, again.json) == (202, response.json)
    assert (await tenant.api.delete(f"/v1/documents/doc_{uuid4().hex}")).is_problem(404, "not_found")


@pytest.mark.parametrize("query", ["purge_file=maybe", "purge=true"])
async def test_an_invalid_deletion_request_deletes_nothing(tenant: Tenant, query: str) -> None:
    document = await tenant.upload()
    path = f"/v1/documents/{document['id']}"
    assert (await tenant.api.delete(f"{path}?{query}")).is_problem(422, "invalid_request")
    assert (await tenant.api.get(path)).json["status"] == "queued"


async def test_an_upload_key_can_upload_but_not_read(client: Client, admin: Api, tenant: Tenant) -> None:
    api = Api(client, await make_key(admin, tenant.id, scopes=["upload"]))
    response = await api.call("POST", "/v1/documents", data=form(b"content"))
    assert response.status == 202
    assert (await api.get(f"/v1/documents/{response.json['id']}")).is_problem(403, "forbidden")


async def test_slow_uploads_of_one_workspace_do_not_block_another(make_client: ClientMaker) -> None:
    # The memory is enough for one part and, beside it, for sixteen files of which little has arrived.
    client = await make_client(upload_buffer_bytes=PART, upload_part_size_bytes=PART)
    admin = operator_of(client)
    busy, other = await make_tenant(client, admin, "acme"), await make_tenant(client, admin, "globex")
    buffers = client.app[RESOURCES].buffers
    slow = [await begin_upload(busy.api) for _ in range(32)]

    def is_used_up() -> bool:
        for writer in slow:
            writer.write(b"x" * 100)
        return buffers.parts.waiting > 10 and not buffers.parts.free

    await until(is_used_up, what="the memory to be used up")
    assert buffers.small.held_by(busy.uuid) <= buffers.small.capacity * LARGEST_SHARE
    assert (await send(other, form(b"A small file."))).status == 202
    for writer in slow:
        writer.close()
    await until(lambda: buffers.parts.free == PART and buffers.small.free == buffers.small.capacity)


async def test_a_missing_resource_is_called_by_its_kind(tenant: Tenant, other: Tenant) -> None:
    theirs = await other.upload()
    zeros = "0" * 32
    for path, kind in (
        (f"/v1/documents/{theirs['id']}", "document"),
        (f"/v1/documents/doc_{zeros}/text", "document"),
        (f"/v1/files/file_{zeros}", "file"),
        ("/v1/chat/sessions/chat_unknown", "chat session"),
        (f"/v1/collections/col_{zeros}", "collection"),
        (f"/v1/webhooks/hook_{zeros}", "webhook"),
        (f"/v1/documents?collection_id=col_{zeros}", "collection"),
    ):
        response = await tenant.api.get(path)
        assert response.is_problem(404, "not_found"), path
        assert response.json["detail"] == f"There is no {kind} with this id.", path
    body = {"file_id": theirs["file_id"], "collection_id": theirs["collection_id"]}
    assert (await tenant.api.post("/v1/documents", body)).json["detail"] == "There is no file with this id."
    refused = await tenant.api.get("/v1/admin/queues")
    assert refused.is_problem(403, "forbidden")
    assert "admin key" in refused.json["detail"]


async def test_a_document_is_searchable_while_a_new_version_is_processed(tenant: Tenant, ready: dict[str, Any]) -> None:
    assert ready["searchable"] is True
    queued = await tenant.api.post(f"/v1/documents/{ready['id']}/reingest")
    assert (queued.json["status"], queued.json["searchable"]) == ("queued", True)
    assert (await tenant.upload(b"Pans fry.", filename="pans.txt"))["searchable"] is False
    await tenant.api.delete(f"/v1/documents/{ready['id']}")
    assert (await tenant.api.get(f"/v1/documents/{ready['id']}")).json["searchable"] is False

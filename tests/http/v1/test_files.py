"""Files: lists, and deletion once no document uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from ragsvc.db import documents
from ragsvc.domain.ids import format_id
from ragsvc.http.contract.ids import parse_id

if TYPE_CHECKING:
    from ragsvc.resources import Resources
    from tests.http.conftest import Tenant


async def test_a_file_is_listed_and_shown(tenant: Tenant) -> None:
    document = await tenant.upload()
    shown = (await tenant.api.get(f"/v1/files/{document['file_id']}")).json
    assert shown == {
        "id": document["file_id"],
        "object": "file",
        "filename": "kettles.txt",
        "mime_type": "text/plain",
        "size_bytes": document["size_bytes"],
        "sha256": document["sha256"],
        "created_at": shown["created_at"],
    }
    assert (await tenant.api.get("/v1/files")).json == {"data": [shown], "next_cursor": None}


async def test_files_are_paged(tenant: Tenant) -> None:
    created = [(await tenant.upload(f"text {number}".encode()))["file_id"] for number in range(3)]
    first = (await tenant.api.get("/v1/files?limit=2")).json
    second = (await tenant.api.get(f"/v1/files?limit=2&cursor={first['next_cursor']}")).json
    assert [file["id"] for file in first["data"] + second["data"]] == created[::-1]
    assert second["next_cursor"] is None


async def test_a_file_in_use_cannot_be_deleted(tenant: Tenant, resources: Resources) -> None:
    document = await tenant.upload()
    path = f"/v1/files/{document['file_id']}"
    assert (await tenant.api.delete(path)).is_problem(409, "file_in_use")
    assert (await tenant.api.get(path)).status == 200
    assert await resources.storage.count_objects(tenant.bucket) == 1


async def test_an_unused_file_is_deleted_with_its_object(tenant: Tenant, resources: Resources) -> None:
    document = await tenant.upload()
    async with resources.pool.acquire() as conn:
        await documents.delete_documents(conn, tenant.uuid, [parse_id("doc", document["id"])])
    path = f"/v1/files/{document['file_id']}"
    assert (await tenant.api.delete(path)).status == 204
    assert (await tenant.api.get(path)).is_problem(404, "not_found")
    assert (await tenant.api.delete(path)).is_problem(404, "not_found")
    assert await resources.storage.count_objects(tenant.bucket) == 0


async def test_an_unknown_file_is_not_found(tenant: Tenant) -> None:
    assert (await tenant.api.get(f"/v1/files/{format_id('file', uuid4())}")).is_problem(404, "not_found")

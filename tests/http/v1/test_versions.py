"""Versions over HTTP: reingestion, replacing the file, and which version is shown until the new one is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from ragsvc.db import documents
from ragsvc.domain.ids import format_id
from ragsvc.domain.jobs import IngestPayload, Queue
from ragsvc.errors.work import DocumentErrorCode, DocumentRejected
from ragsvc.http.contract.ids import parse_id
from ragsvc.jobs import lifecycle, retry_policy
from tests.http.conftest import Api, make_key
from tests.http.support.documents import TEXT, finish_document, form
from tests.support.documents.documents import job_of

if TYPE_CHECKING:
    from ragsvc.domain.jobs import Job
    from ragsvc.resources import Resources
    from tests.http.conftest import ApiResponse, Tenant

UNKNOWN = format_id("doc", UUID(int=7))


async def queued_job(resources: Resources, tenant: Tenant, document_id: str) -> Job:
    """Return the document's queued ingestion job."""
    async with resources.pool.acquire() as conn:
        document = await documents.select_document(conn, tenant.uuid, parse_id("doc", document_id))
    assert document is not None
    return await job_of(resources, document)


async def put(
    tenant: Tenant, document_id: str, *, content: bytes = b"Kettles whistle.", fields: dict[str, str] | None = None
) -> ApiResponse:
    """Replace a document's file."""
    data = form(content, filename="newer.txt", **(fields or {}))
    return await tenant.api.call("PUT", f"/v1/documents/{document_id}/content", data=data)


async def test_a_document_is_ingested_again_one_at_a_time(tenant: Tenant, ready: dict[str, Any]) -> None:
    path = f"/v1/documents/{ready['id']}/reingest"
    response = await tenant.api.post(path, {})
    assert response.status == 202
    changing = {"status", "progress", "updated_at"}
    assert {name: value for name, value in response.json.items() if name not in changing} == {
        name: value for name, value in ready.items() if name not in changing
    }
    assert (response.json["status"], response.json["progress"], response.json["version"]) == ("queued", 0.0, 1)
    assert (await tenant.api.post(path, {})).is_problem(409, "ingestion_active")
    listed = (await tenant.api.get(f"/v1/documents/{ready['id']}/chunks")).json["data"]
    assert [chunk["ordinal"] for chunk in listed] == [0, 1]


async def test_a_reingestion_can_use_another_chunking(
    tenant: Tenant, ready: dict[str, Any], resources: Resources
) -> None:
    chunking = {"max_tokens": 64, "overlap_tokens": 8}
    response = await tenant.api.post(f"/v1/documents/{ready['id']}/reingest", {"chunking": chunking})
    assert response.status == 202
    assert (await queued_job(resources, tenant, ready["id"])).payload["chunking"] == chunking


async def test_a_reingestion_needs_no_body(tenant: Tenant, ready: dict[str, Any]) -> None:
    assert (await tenant.api.call("POST", f"/v1/documents/{ready['id']}/reingest")).status == 202


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"chunking": {"max_tokens": 4000, "overlap_tokens": 8}}, "chunking.max_tokens"),
        ({"chunking": {"max_tokens": 64, "overlap_tokens": 64}}, "chunking.overlap_tokens"),
        ({"chunking": {"max_tokens": 64}}, "chunking.overlap_tokens"),
        ({"chunks": 1}, "chunks"),
        ({"discard_replacement": "yes"}, "discard_replacement"),
    ],
)
async def test_an_invalid_chunking_is_refused(
    tenant: Tenant, ready: dict[str, Any], body: dict[str, Any], field: str
) -> None:
    response = await tenant.api.post(f"/v1/documents/{ready['id']}/reingest", body)
    assert response.is_problem(422, "invalid_request")
    assert [error["field"] for error in response.json["errors"]] == [field]
    assert (await tenant.api.get(f"/v1/documents/{ready['id']}")).json["status"] == "ready"


async def test_only_an_existing_document_of_the_workspace_gets_a_new_version(
    tenant: Tenant, other: Tenant, ready: dict[str, Any]
) -> None:
    for api, document_id in ((tenant.api, UNKNOWN), (other.api, ready["id"])):
        assert (await api.post(f"/v1/documents/{document_id}/reingest", {})).is_problem(404, "not_found")
    assert (await put(tenant, UNKNOWN)).is_problem(404, "not_found")
    assert (await put(other, ready["id"])).is_problem(404, "not_found")
    await tenant.api.delete(f"/v1/documents/{ready['id']}")
    response = await tenant.api.post(f"/v1/documents/{ready['id']}/reingest", {})
    assert response.is_problem(409, "document_deleting")
    assert (await put(tenant, ready["id"])).is_problem(409, "document_deleting")


async def test_reingesting_requires_the_write_scope(tenant: Tenant, admin: Api, ready: dict[str, Any]) -> None:
    reader = Api(tenant.api.client, await make_key(admin, tenant.id, scopes=["read"]))
    assert (await reader.post(f"/v1/documents/{ready['id']}/reingest", {})).is_problem(403, "forbidden")
    response = await reader.call("PUT", f"/v1/documents/{ready['id']}/content", data=form(b"x"))
    assert response.is_problem(403, "forbidden")


async def test_a_new_file_is_shown_once_it_is_active(
    tenant: Tenant, ready: dict[str, Any], resources: Resources
) -> None:
    response = await put(tenant, ready["id"], fields={"attributes": '{"year": 2026}'})
    assert response.status == 202, response.raw
    assert (response.json["status"], response.json["version"]) == ("queued", 1)
    assert (response.json["file_id"], response.json["attributes"]) == (ready["file_id"], {})
    path = f"/v1/documents/{ready['id']}"
    assert (await tenant.api.get(f"{path}/content")).raw == b"Kettles boil water."
    assert (await tenant.api.get(f"{path}/text")).json["text"] == TEXT
    # Both files are stored while both are needed.
    assert len((await tenant.api.get("/v1/files")).json["data"]) == 2
    job = await queued_job(resources, tenant, ready["id"])
    await finish_document(
        resources, tenant.uuid, parse_id("doc", ready["id"]), file_id=IngestPayload.from_json(job.payload).file_id
    )
    shown = (await tenant.api.get(path)).json
    assert (shown["version"], shown["filename"], shown["attributes"]) == (2, "newer.txt", {"year": 2026})
    assert (await tenant.api.get(f"{path}/content")).raw == b"Kettles whistle."
    assert (await tenant.api.get(f"{path}/text?version=1")).json["text"] == TEXT


async def test_a_failed_replacement_is_discarded_and_the_document_is_ready_again(
    tenant: Tenant, ready: dict[str, Any], resources: Resources
) -> None:
    path, document_id = f"/v1/documents/{ready['id']}", parse_id("doc", ready["id"])
    assert (await put(tenant, ready["id"], content=b"%PDF-1.7 torn")).status == 202
    held = await lifecycle.claim(
        resources.pool,
        (await queued_job(resources, tenant, ready["id"])).id,
        queue=Queue.INGESTION,
        owner="test",
        lease_s=60,
    )
    assert held is not None
    torn = retry_policy.classify(DocumentRejected(DocumentErrorCode.CORRUPT, "it is torn"))
    assert await lifecycle.fail(resources.pool, held, torn, settings=resources.settings) is not None
    failed = (await tenant.api.get(path)).json
    assert (failed["status"], failed["error"]["code"], failed["filename"]) == ("failed", "corrupt", ready["filename"])
    response = await tenant.api.post(f"{path}/reingest", {"discard_replacement": True})
    assert response.status == 202
    assert (response.json["status"], response.json["error"]) == ("queued", None)
    # The discarded file cannot be read, attached or listed, even before it is swept.
    assert [one["id"] for one in (await tenant.api.get("/v1/files")).json["data"]] == [ready["file_id"]]
    await finish_document(resources, tenant.uuid, document_id)
    shown = (await tenant.api.get(path)).json
    assert (shown["status"], shown["version"], shown["file_id"]) == ("ready", 2, ready["file_id"])


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"attributes": "["}, "attributes"),
        ({"chunking": "{}"}, "chunking"),
    ],
)
async def test_an_invalid_form_leaves_the_document_unchanged(
    tenant: Tenant, ready: dict[str, Any], resources: Resources, fields: dict[str, str], field: str
) -> None:
    response = await put(tenant, ready["id"], fields=fields)
    assert response.is_problem(422, "invalid_request")
    assert [error["field"] for error in response.json["errors"]] == [field]
    assert (await tenant.api.get(f"/v1/documents/{ready['id']}")).json == ready
    assert await resources.storage.count_objects(tenant.bucket) == 1
    assert await resources.storage.list_multiparts(tenant.bucket) == []


async def test_another_collection_is_refused_and_an_unknown_one_is_not_found(
    tenant: Tenant, ready: dict[str, Any]
) -> None:
    another = (await tenant.api.post("/v1/collections", {"name": "another"})).json
    refused = await put(tenant, ready["id"], fields={"collection_id": another["id"]})
    assert refused.is_problem(422, "invalid_request")
    assert [error["field"] for error in refused.json["errors"]] == ["collection_id"]
    unknown = await put(tenant, ready["id"], fields={"collection_id": format_id("col", UUID(int=7))})
    assert unknown.is_problem(404, "not_found")
    assert (await tenant.api.get(f"/v1/documents/{ready['id']}")).json == ready


async def test_the_form_can_name_the_documents_own_collection(tenant: Tenant, ready: dict[str, Any]) -> None:
    assert (await put(tenant, ready["id"], fields={"collection_id": ready["collection_id"]})).status == 202


async def test_an_empty_new_file_is_refused(tenant: Tenant, ready: dict[str, Any]) -> None:
    assert (await put(tenant, ready["id"], content=b"")).is_problem(422, "empty_file")
    assert (await tenant.api.get(f"/v1/documents/{ready['id']}")).json == ready


async def test_json_is_refused_as_a_new_file(tenant: Tenant, ready: dict[str, Any]) -> None:
    response = await tenant.api.call("PUT", f"/v1/documents/{ready['id']}/content", json={})
    assert response.is_problem(415, "unsupported_media_type")


async def test_discarding_a_replacement_that_does_not_exist_queues_nothing(
    tenant: Tenant, ready: dict[str, Any]
) -> None:
    path = f"/v1/documents/{ready['id']}"
    response = await tenant.api.post(f"{path}/reingest", {"discard_replacement": True})
    assert response.is_problem(409, "no_replacement")
    assert (await tenant.api.get(path)).json == ready

"""Versions over HTTP: ingest again, replace the file, and read what answers meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from ragsvc.db import documents
from ragsvc.domain.ids import format_id
from ragsvc.domain.payloads import IngestPayload
from ragsvc.errors import DocumentErrorCode, DocumentRejected
from ragsvc.http.contract.ids import parse_id
from ragsvc.jobs import lifecycle, retry_policy
from tests.http.conftest import Api, make_key
from tests.http.support.documents import TEXT, finish_document, form
from tests.support.documents import job_of

if TYPE_CHECKING:
    from ragsvc.domain.jobs import Job
    from ragsvc.resources import Resources
    from tests.http.conftest import ApiResponse, Tenant

UNKNOWN = format_id("doc", UUID(int=7))


async def queued_job(resources: Resources, tenant: Tenant, document_id: str) -> Job:
    """Return the document's ingestion as it waits."""
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
    answer = await tenant.api.post(path, {})
    assert answer.status == 202
    changing = {"status", "progress", "updated_at"}
    assert {name: value for name, value in answer.json.items() if name not in changing} == {
        name: value for name, value in ready.items() if name not in changing
    }
    assert (answer.json["status"], answer.json["progress"], answer.json["version"]) == ("queued", 0.0, 1)
    assert (await tenant.api.post(path, {})).is_problem(409, "ingestion_active")
    listed = (await tenant.api.get(f"/v1/documents/{ready['id']}/chunks")).json["data"]
    assert [chunk["ordinal"] for chunk in listed] == [0, 1]


async def test_a_document_may_be_cut_otherwise_for_once(
    tenant: Tenant, ready: dict[str, Any], resources: Resources
) -> None:
    chunking = {"max_tokens": 64, "overlap_tokens": 8}
    answer = await tenant.api.post(f"/v1/documents/{ready['id']}/reingest", {"chunking": chunking})
    assert answer.status == 202
    assert (await queued_job(resources, tenant, ready["id"])).payload["chunking"] == chunking


async def test_an_ingestion_needs_no_body(tenant: Tenant, ready: dict[str, Any]) -> None:
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
async def test_a_chunking_that_cannot_be_is_refused(
    tenant: Tenant, ready: dict[str, Any], body: dict[str, Any], field: str
) -> None:
    answer = await tenant.api.post(f"/v1/documents/{ready['id']}/reingest", body)
    assert answer.is_problem(422, "invalid_request")
    assert [error["field"] for error in answer.json["errors"]] == [field]
    assert (await tenant.api.get(f"/v1/documents/{ready['id']}")).json["status"] == "ready"


async def test_only_a_living_document_of_the_workspace_has_versions(
    tenant: Tenant, other: Tenant, ready: dict[str, Any]
) -> None:
    for api, document_id in ((tenant.api, UNKNOWN), (other.api, ready["id"])):
        assert (await api.post(f"/v1/documents/{document_id}/reingest", {})).is_problem(404, "not_found")
    assert (await put(tenant, UNKNOWN)).is_problem(404, "not_found")
    assert (await put(other, ready["id"])).is_problem(404, "not_found")
    await tenant.api.delete(f"/v1/documents/{ready['id']}")
    answer = await tenant.api.post(f"/v1/documents/{ready['id']}/reingest", {})
    assert answer.is_problem(409, "document_deleting")
    assert (await put(tenant, ready["id"])).is_problem(409, "document_deleting")


async def test_ingesting_again_needs_a_key_that_writes(tenant: Tenant, admin: Api, ready: dict[str, Any]) -> None:
    reader = Api(tenant.api.client, await make_key(admin, tenant.id, scopes=["read"]))
    assert (await reader.post(f"/v1/documents/{ready['id']}/reingest", {})).is_problem(403, "forbidden")
    answer = await reader.call("PUT", f"/v1/documents/{ready['id']}/content", data=form(b"x"))
    assert answer.is_problem(403, "forbidden")


async def test_a_new_file_is_shown_once_it_answers(tenant: Tenant, ready: dict[str, Any], resources: Resources) -> None:
    answer = await put(tenant, ready["id"], fields={"attributes": '{"year": 2026}'})
    assert answer.status == 202, answer.raw
    assert (answer.json["status"], answer.json["version"]) == ("queued", 1)
    assert (answer.json["file_id"], answer.json["attributes"]) == (ready["file_id"], {})
    path = f"/v1/documents/{ready['id']}"
    assert (await tenant.api.get(f"{path}/content")).raw == b"Kettles boil water."
    assert (await tenant.api.get(f"{path}/text")).json["text"] == TEXT
    # Both files are there as long as both are needed.
    assert len((await tenant.api.get("/v1/files")).json["data"]) == 2
    job = await queued_job(resources, tenant, ready["id"])
    await finish_document(
        resources, tenant.uuid, parse_id("doc", ready["id"]), file_id=IngestPayload.from_json(job.payload).file_id
    )
    shown = (await tenant.api.get(path)).json
    assert (shown["version"], shown["filename"], shown["attributes"]) == (2, "newer.txt", {"year": 2026})
    assert (await tenant.api.get(f"{path}/content")).raw == b"Kettles whistle."
    assert (await tenant.api.get(f"{path}/text?version=1")).json["text"] == TEXT


async def test_a_new_file_that_failed_is_given_up_and_the_document_is_ready_again(
    tenant: Tenant, ready: dict[str, Any], resources: Resources
) -> None:
    path, document_id = f"/v1/documents/{ready['id']}", parse_id("doc", ready["id"])
    assert (await put(tenant, ready["id"], content=b"%PDF-1.7 torn")).status == 202
    held = await lifecycle.claim(
        resources.pool, (await queued_job(resources, tenant, ready["id"])).id, owner="test", lease_s=60
    )
    assert held is not None
    torn = retry_policy.classify(DocumentRejected(DocumentErrorCode.CORRUPT, "it is torn"))
    assert await lifecycle.fail(resources.pool, held, torn, settings=resources.settings) is not None
    failed = (await tenant.api.get(path)).json
    assert (failed["status"], failed["error"]["code"], failed["filename"]) == ("failed", "corrupt", ready["filename"])
    answer = await tenant.api.post(f"{path}/reingest", {"discard_replacement": True})
    assert answer.status == 202
    assert (answer.json["status"], answer.json["error"]) == ("queued", None)
    # Nobody can read, keep or list what was given up, before it is swept too.
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
async def test_a_form_that_does_not_fit_leaves_the_document_as_it_was(
    tenant: Tenant, ready: dict[str, Any], resources: Resources, fields: dict[str, str], field: str
) -> None:
    answer = await put(tenant, ready["id"], fields=fields)
    assert answer.is_problem(422, "invalid_request")
    assert [error["field"] for error in answer.json["errors"]] == [field]
    assert (await tenant.api.get(f"/v1/documents/{ready['id']}")).json == ready
    assert await resources.storage.count_objects(tenant.bucket) == 1
    assert await resources.storage.list_multiparts(tenant.bucket) == []


async def test_another_collection_is_refused_and_an_unknown_one_unknown(tenant: Tenant, ready: dict[str, Any]) -> None:
    another = (await tenant.api.post("/v1/collections", {"name": "another"})).json
    refused = await put(tenant, ready["id"], fields={"collection_id": another["id"]})
    assert refused.is_problem(422, "invalid_request")
    assert [error["field"] for error in refused.json["errors"]] == ["collection_id"]
    unknown = await put(tenant, ready["id"], fields={"collection_id": format_id("col", UUID(int=7))})
    assert unknown.is_problem(404, "not_found")
    assert (await tenant.api.get(f"/v1/documents/{ready['id']}")).json == ready


async def test_its_own_collection_may_be_named(tenant: Tenant, ready: dict[str, Any]) -> None:
    assert (await put(tenant, ready["id"], fields={"collection_id": ready["collection_id"]})).status == 202


async def test_an_empty_new_file_is_refused(tenant: Tenant, ready: dict[str, Any]) -> None:
    assert (await put(tenant, ready["id"], content=b"")).is_problem(422, "empty_file")
    assert (await tenant.api.get(f"/v1/documents/{ready['id']}")).json == ready


async def test_json_is_no_new_file(tenant: Tenant, ready: dict[str, Any]) -> None:
    answer = await tenant.api.call("PUT", f"/v1/documents/{ready['id']}/content", json={})
    assert answer.is_problem(415, "unsupported_media_type")

"""What operators see of the service: rates, settings, checks, and what happened to an id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from ragsvc.http.contract.ids import parse_id
from tests.http.conftest import Api, operator_of
from tests.http.support.documents import show_failure

if TYPE_CHECKING:
    from ragsvc.resources import Resources
    from tests.http.conftest import Client, ClientMaker, Tenant

ENDPOINTS = ("rates", "settings", "check", "trace/job_0199c1f2a3b47c5d8e6f0a1b2c3d4e5f")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_workspace_key_learns_nothing(tenant: Tenant, endpoint: str) -> None:
    assert (await tenant.api.get(f"/v1/admin/{endpoint}")).is_problem(403, "forbidden")


async def test_rates_count_what_ended_in_the_window(admin: Api, tenant: Tenant, resources: Resources) -> None:
    async def count() -> dict[str, tuple[int, int]]:
        rates = (await admin.get("/v1/admin/rates?window_s=600")).json
        assert (rates["window_s"], rates["bucket_s"]) == (600, 10)
        for one in rates["data"]:
            assert len(one["buckets"]) == 60
            assert [bucket["at"] for bucket in one["buckets"]] == sorted(bucket["at"] for bucket in one["buckets"])
            assert (one["done"], one["dead"]) == tuple(
                sum(bucket[name] for bucket in one["buckets"]) for name in ("done", "dead")
            )
        return {one["queue"]: (one["done"], one["dead"]) for one in rates["data"]}

    before = await count()
    ended = [parse_id("doc", (await tenant.upload())["id"]) for _ in range(3)]
    async with resources.pool.acquire() as conn:
        for document_id, status in zip(ended, ("done", "dead", "done"), strict=True):
            # The third ended before the window.
            await conn.execute(
                "UPDATE jobs SET status = $2, finished_at = now() - $3 * interval '1 second',"
                " last_failed_at = now() - interval '20 seconds' WHERE subject_id = $1",
                document_id,
                status,
                700 if document_id == ended[2] else 20,
            )
    after = await count()
    assert tuple(new - old for new, old in zip(after["ingestion"], before["ingestion"], strict=True)) == (1, 1)
    assert after["deletion"] == before["deletion"]


@pytest.mark.parametrize("query", ["window_s=59", "window_s=86401", "window_s=x", "bucket=1"])
async def test_an_invalid_window_is_refused(admin: Api, query: str) -> None:
    assert (await admin.get(f"/v1/admin/rates?{query}")).is_problem(422, "invalid_request")


async def test_settings_are_shown_without_secrets(make_client: ClientMaker) -> None:
    client = await make_client(
        admin_api_keys=SecretStr("anna:the-key-of-anna"), embedding_base_url="http://user:hunter2@127.0.0.1:9/v1"
    )
    shown = await operator_of(client).get("/v1/admin/settings")
    values = {one["name"]: one for one in shown.json["data"]}
    for name in ("DATABASE_URL", "ADMIN_API_KEY", "ADMIN_API_KEYS", "S3_SECRET_ACCESS_KEY"):
        assert (values[name]["value"], values[name]["is_secret"]) == ("***", True)
    assert values["EMBEDDING_BASE_URL"]["value"] == "http://***@127.0.0.1:9/v1"
    assert (values["RERANK_BASE_URL"]["value"], values["RERANK_BASE_URL"]["is_default"]) == (None, True)
    assert values["EMBEDDING_DIMENSIONS"]["value"] == "384"
    text = shown.raw.decode()
    assert not [secret for secret in ("hunter2", "the-key-of", "the-admin-key") if secret in text]


async def test_the_check_names_what_is_faulty(make_client: ClientMaker) -> None:
    client = await make_client(chat_model="nope")
    checked = (await operator_of(client).get("/v1/admin/check")).json
    faults = {one["part"]: one["faults"] for one in checked["data"]}
    assert checked["status"] == "faulty"
    assert faults["postgres"] == faults["embedding"] == []
    assert any("nope at OPENAI_BASE_URL cannot be used" in fault for fault in faults["chat"])


async def trace(admin: Api, traced: str) -> dict[str, Any]:
    """Return what is known about an id."""
    response = await admin.get(f"/v1/admin/trace/{traced}")
    assert response.status == 200, response.raw
    found: dict[str, Any] = response.json
    return found


async def test_a_document_is_traced_to_its_request_and_its_attempts(
    admin: Api, tenant: Tenant, resources: Resources
) -> None:
    document = await tenant.upload()
    document_id = parse_id("doc", document["id"])
    await show_failure(resources, tenant.uuid, document_id)
    traces = [
        await trace(admin, text) for text in (document["id"], document_id.hex, str(document_id), document["file_id"])
    ]
    (job,) = traces[0]["jobs"]
    assert all(one["jobs"] == [job] for one in traces)
    assert job["subject"] == {"kind": "document", "id": document["id"]}
    assert (job["workspace_id"], job["queue"], job["kind"]) == (tenant.id, "ingestion", "ingest")
    request_id = job["request_id"]
    assert traces[0]["request_ids"] == [request_id]
    for text in (request_id, job["job_id"], f"{job['job_id']}:1", str(UUID(job["job_id"].removeprefix("job_")))):
        assert (await trace(admin, text))["jobs"] == [job]
    assert traces[0]["timeline"][0]["event"] == "job queued"


async def test_a_request_with_an_id_of_the_client_is_traced(client: Client, admin: Api, tenant: Tenant) -> None:
    document = await tenant.upload()
    name = f"my-request-{document['id']}"
    response = await client.request(
        "DELETE",
        f"/v1/documents/{document['id']}",
        headers={"Authorization": f"Bearer {tenant.api.key}", "X-Request-Id": name},
    )
    assert response.status == 202
    deletion_id = (await response.json())["deletion_id"]
    traced = await trace(admin, name)
    assert [job["queue"] for job in traced["jobs"]] == ["deletion"]
    assert [event["action"] for event in traced["events"]] == ["document.deleted"]
    assert [job["queue"] for job in (await trace(admin, deletion_id))["jobs"]].count("deletion") == 1


async def test_a_run_is_found_by_its_message_and_session(admin: Api, tenant: Tenant) -> None:
    session = (await tenant.api.post("/v1/chat/sessions", {})).json
    asked = await tenant.api.post(f"/v1/chat/sessions/{session['id']}/messages", {"content": "hello", "stream": False})
    assert asked.status < 500, asked.raw
    (run,) = (await trace(admin, session["id"]))["runs"]
    for traced in (run["run_id"], run["message_id"]):
        assert [one["run_id"] for one in (await trace(admin, traced))["runs"]] == [run["run_id"]]


@pytest.mark.parametrize("traced", ["doc_" + "0" * 32, "nonsense", "0" * 32, "x" * 129, "%00", "job_", "'; --"])
async def test_an_unknown_id_is_not_found(admin: Api, traced: str) -> None:
    assert (await admin.get(f"/v1/admin/trace/{traced}")).is_problem(404, "not_found")

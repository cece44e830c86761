"""The operator's API for queues and dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from ragsvc.db import jobs, queue_state
from ragsvc.domain.ids import format_id
from ragsvc.domain.jobs import Queue, SubjectKind
from ragsvc.errors.work import DocumentRejected
from ragsvc.http.contract.ids import parse_id
from ragsvc.jobs import dead_letters, lifecycle, retry_policy
from ragsvc.queue.notifier import Notification

if TYPE_CHECKING:
    from ragsvc.domain.jobs import Job
    from ragsvc.resources import Resources
    from tests.http.conftest import Api, Tenant


@pytest.fixture(autouse=True)
async def no_jobs(resources: Resources) -> None:
    """Remove the jobs and pauses that other tests left behind."""
    async with resources.pool.acquire() as conn:
        await conn.execute("DELETE FROM jobs")
        await conn.execute("UPDATE queue_state SET paused = false, reason = NULL")


async def active_job(resources: Resources, tenant: Tenant, document: dict[str, Any]) -> Job:
    """Return the document's ingestion job."""
    async with resources.pool.acquire() as conn:
        job = await jobs.select_active_job(
            conn,
            tenant.uuid,
            queue=Queue.INGESTION,
            subject_kind=SubjectKind.DOCUMENT,
            subject_id=parse_id("doc", document["id"]),
        )
    assert job is not None
    return job


async def add_dead_letter(
    resources: Resources, tenant: Tenant, content: bytes, *, code: str = "corrupt"
) -> dict[str, Any]:
    """Upload a document whose ingestion becomes a dead letter, and return it."""
    document = await tenant.upload(content)
    job = await active_job(resources, tenant, document)
    claimed = await lifecycle.claim(resources.pool, job.id, queue=job.queue, owner="worker-1", lease_s=30)
    assert claimed is not None
    failure = retry_policy.classify(DocumentRejected(code, "it cannot be parsed"))
    dead = await lifecycle.fail(resources.pool, claimed, failure, settings=resources.settings)
    assert dead is not None
    await dead_letters.post(resources, dead)
    return document


async def test_both_queues_show_their_depth(admin: Api, tenant: Tenant, resources: Resources) -> None:
    await tenant.upload(b"waits")
    await add_dead_letter(resources, tenant, b"dies")
    shown = {queue["queue"]: queue for queue in (await admin.get("/v1/admin/queues")).json["data"]}
    assert set(shown) == {"ingestion", "deletion"}
    ingestion = shown["ingestion"]
    assert (ingestion["queued"], ingestion["ready"], ingestion["running"], ingestion["dead"]) == (1, 1, 0, 1)
    assert ingestion["oldest_ready_age_s"] >= 0
    assert (ingestion["paused"], ingestion["reason"]) == (False, None)
    assert ingestion["dead_per_minute"] == pytest.approx(0.2)
    assert ingestion["leases"] == []
    assert shown["deletion"]["oldest_ready_age_s"] is None


async def test_a_queue_shows_its_running_jobs(admin: Api, tenant: Tenant, resources: Resources) -> None:
    document = await tenant.upload(b"runs")
    async with resources.pool.acquire() as conn:
        job_id = await conn.fetchval("SELECT id FROM jobs")
    assert await lifecycle.claim(resources.pool, job_id, queue=Queue.INGESTION, owner="worker-7", lease_s=30)
    (lease,) = (await admin.get("/v1/admin/queues")).json["data"][0]["leases"]
    assert lease["subject"] == {"kind": "document", "id": document["id"]}
    assert (lease["worker"], lease["attempts"], lease["rescues"]) == ("worker-7", 1, 0)
    assert 0 <= lease["running_s"] < 30
    assert 0 < lease["lease_left_s"] <= 30


async def test_a_queue_shows_the_outage_that_paused_it(admin: Api, resources: Resources) -> None:
    async with resources.pool.acquire() as conn:
        assert await queue_state.begin_outage(
            conn, Queue.INGESTION, code="embedding_unreachable", reason="nobody answers", probe_in_s=60
        )
    shown = (await admin.get("/v1/admin/queues")).json["data"][0]
    assert (shown["paused"], shown["reason"]) == (True, "nobody answers")
    assert shown["paused_since"] < shown["next_probe_at"]
    resumed = await admin.call("POST", "/v1/admin/queues/ingestion/resume")
    assert (resumed.json["paused"], resumed.json["next_probe_at"]) == (False, None)


async def test_a_queue_is_paused_with_its_reason_and_resumed(admin: Api) -> None:
    paused = await admin.post("/v1/admin/queues/ingestion/pause", {"reason": "the provider moves"})
    assert (paused.status, paused.json["paused"], paused.json["reason"]) == (200, True, "the provider moves")
    assert (await admin.get("/v1/admin/queues")).json["data"][0] == paused.json
    resumed = await admin.call("POST", "/v1/admin/queues/ingestion/resume")
    assert (resumed.json["paused"], resumed.json["reason"]) == (False, None)


async def test_resuming_a_queue_notifies_its_workers_immediately(
    admin: Api, tenant: Tenant, resources: Resources
) -> None:
    await admin.call("POST", "/v1/admin/queues/ingestion/pause")
    document = await tenant.upload(b"waits")
    job = await active_job(resources, tenant, document)
    # A worker consumed the notification while the queue was paused.
    await resources.notifier.remove(Queue.INGESTION, Notification(job.id, job.generation))
    await admin.call("POST", "/v1/admin/queues/ingestion/resume")
    assert Notification(job.id, job.generation) in await resources.notifier.pending(Queue.INGESTION, limit=1000)


async def test_a_queue_can_be_paused_without_a_body(admin: Api) -> None:
    assert (await admin.call("POST", "/v1/admin/queues/deletion/pause")).json["paused"] is True


@pytest.mark.parametrize("body", [{"reason": 7}, {"why": "x"}, {"reason": "x" * 501}, []])
async def test_an_invalid_pause_request_pauses_nothing(admin: Api, body: object) -> None:
    assert (await admin.post("/v1/admin/queues/ingestion/pause", body)).is_problem(422, "invalid_request")
    assert (await admin.get("/v1/admin/queues")).json["data"][0]["paused"] is False


@pytest.mark.parametrize("path", ["queues/nothing/pause", "queues/nothing/resume", "dlq/nothing/replay"])
async def test_an_unknown_queue_is_not_found(admin: Api, path: str) -> None:
    assert (await admin.post(f"/v1/admin/{path}", {})).is_problem(404, "not_found")
    assert (await admin.get("/v1/admin/dlq/nothing")).is_problem(404, "not_found")


async def test_a_dead_letter_shows_its_document_and_error(admin: Api, tenant: Tenant, resources: Resources) -> None:
    document = await add_dead_letter(resources, tenant, b"dies")
    page = (await admin.get("/v1/admin/dlq/ingestion")).json
    (entry,) = page["data"]
    assert page["next_cursor"] is None
    assert (entry["document_id"], entry["workspace_id"]) == (document["id"], tenant.id)
    assert (entry["queue"], entry["error"]["code"], entry["attempts"]) == ("ingestion", "corrupt", 1)
    assert entry["last_failed_at"].endswith("Z")
    bare_id = str(UUID(entry["job_id"].removeprefix("job_")))
    for name in (entry["entry_id"], entry["job_id"], entry["document_id"], bare_id):
        assert (await admin.get(f"/v1/admin/dlq/ingestion/{name}")).json == entry
    assert (await admin.get(f"/v1/admin/dlq/deletion/{entry['entry_id']}")).is_problem(404, "not_found")


async def test_dead_letters_of_owners_differ_from_those_of_the_service(
    admin: Api, tenant: Tenant, resources: Resources
) -> None:
    corrupt = await add_dead_letter(resources, tenant, b"dies", code="corrupt")
    crashed = await add_dead_letter(resources, tenant, b"dies too", code="parser_crash")
    shown = {entry["document_id"]: entry for entry in (await admin.get("/v1/admin/dlq/ingestion")).json["data"]}
    assert [shown[document["id"]]["fault"] for document in (corrupt, crashed)] == ["owner", "service"]
    workspace = (await tenant.api.get("/v1/workspace")).json
    for document in (corrupt, crashed):
        entry = shown[document["id"]]
        assert (entry["workspace_name"], entry["filename"]) == (workspace["name"], document["filename"])
    queues = {queue["queue"]: queue for queue in (await admin.get("/v1/admin/queues")).json["data"]}
    assert (queues["ingestion"]["dead"], queues["ingestion"]["dead_for_service"]) == (2, 1)


async def test_dead_letters_are_filtered_and_paged(
    admin: Api, tenant: Tenant, other: Tenant, resources: Resources
) -> None:
    mine = [
        await add_dead_letter(resources, tenant, f"dies {number}".encode(), code="encrypted") for number in range(3)
    ]
    theirs = await add_dead_letter(resources, other, b"dies")

    async def found(query: str) -> list[str]:
        return [entry["document_id"] for entry in (await admin.get(f"/v1/admin/dlq/ingestion?{query}")).json["data"]]

    assert await found("code=corrupt") == [theirs["id"]]
    assert await found(f"workspace_id={tenant.id}") == [document["id"] for document in mine[::-1]]
    assert await found(f"workspace_id={tenant.id}&code=corrupt") == []
    first = (await admin.get("/v1/admin/dlq/ingestion?limit=3")).json
    # An entry of the first page is discarded before the next page is requested.
    gone = f"/v1/admin/dlq/ingestion/{first['data'][0]['entry_id']}"
    assert (await admin.delete(gone)).status == 204
    second = (await admin.get(f"/v1/admin/dlq/ingestion?limit=3&cursor={first['next_cursor']}")).json
    ids = [entry["document_id"] for entry in first["data"] + second["data"]]
    assert ids == [theirs["id"], *(document["id"] for document in mine[::-1])]
    assert (await admin.get("/v1/admin/dlq/ingestion?workspace_id=x")).is_problem(422, "invalid_request")


async def test_a_dead_letter_is_replayed_once(admin: Api, tenant: Tenant, resources: Resources) -> None:
    document = await add_dead_letter(resources, tenant, b"dies")
    (entry,) = (await admin.get("/v1/admin/dlq/ingestion")).json["data"]
    path = "/v1/admin/dlq/ingestion/replay"
    first = await admin.post(path, {"ids": [entry["entry_id"]]})
    assert first.json == {"matched": 1, "replayed": 1, "superseded": 0, "dry_run": False}
    assert (await admin.post(path, {"ids": [entry["job_id"]]})).json["matched"] == 0
    assert (await tenant.api.get(f"/v1/documents/{document['id']}")).json["status"] == "queued"
    assert (await admin.get("/v1/admin/dlq/ingestion")).json["data"] == []


async def test_replaying_all_requires_confirmation(admin: Api, tenant: Tenant, resources: Resources) -> None:
    for number in range(2):
        await add_dead_letter(resources, tenant, f"dies {number}".encode())
    path = "/v1/admin/dlq/ingestion/replay"
    preview = (await admin.post(path, {"all": True})).json
    assert preview == {"matched": 2, "replayed": 0, "superseded": 0, "dry_run": True}
    asked = (await admin.post(path, {"all": True, "confirm": True, "dry_run": True})).json
    assert asked == preview
    done = (await admin.post(path, {"all": True, "confirm": True, "rate": 1000, "limit": 1})).json
    assert done == {"matched": 1, "replayed": 1, "superseded": 0, "dry_run": False}
    rest = (await admin.post(path, {"code": "corrupt", "workspace_id": tenant.id})).json
    assert rest["replayed"] == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"all": False},
        {"confirm": True},
        {"all": True, "code": "corrupt"},
        {"ids": []},
        {"ids": ["nonsense"]},
        {"ids": "x"},
        {"since": "yesterday"},
        {"all": True, "rate": 0},
        {"all": True, "limit": 0},
        {"all": "yes"},
    ],
)
async def test_an_invalid_replay_request_replays_nothing(
    admin: Api, tenant: Tenant, resources: Resources, body: dict[str, object]
) -> None:
    await add_dead_letter(resources, tenant, b"dies")
    assert (await admin.post("/v1/admin/dlq/ingestion/replay", body)).is_problem(422, "invalid_request")
    assert len((await admin.get("/v1/admin/dlq/ingestion")).json["data"]) == 1


async def test_a_dead_letter_is_discarded(admin: Api, tenant: Tenant, resources: Resources) -> None:
    await add_dead_letter(resources, tenant, b"dies")
    (entry,) = (await admin.get("/v1/admin/dlq/ingestion")).json["data"]
    path = f"/v1/admin/dlq/ingestion/{entry['entry_id']}"
    assert (await admin.delete(path)).status == 204
    assert (await admin.delete(path)).is_problem(404, "not_found")
    assert (await admin.get(path)).is_problem(404, "not_found")


@pytest.mark.parametrize("wanted", [str(UUID(int=7)), format_id("job", UUID(int=7)), "nonsense", f"{UUID(int=7)}:x"])
async def test_an_unknown_dead_letter_is_not_found(admin: Api, wanted: str) -> None:
    assert (await admin.get(f"/v1/admin/dlq/ingestion/{wanted}")).is_problem(404, "not_found")
    assert (await admin.delete(f"/v1/admin/dlq/ingestion/{wanted}")).is_problem(404, "not_found")

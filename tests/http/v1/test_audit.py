"""The audit log records actions by operators and deletions by keys, in the same transaction as the action itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from pydantic import SecretStr

from ragsvc.domain.ids import format_id, new_id
from tests.http.conftest import Api
from tests.support.servers.databases import owner_of

if TYPE_CHECKING:
    from ragsvc.settings.settings import Settings
    from tests.http.conftest import Client, ClientMaker, Tenant


async def events_of(admin: Api, tenant: Tenant, query: str = "") -> list[dict[str, Any]]:
    """Return a workspace's events, newest first."""
    response = await admin.get(f"/v1/admin/audit?workspace_id={tenant.id}&limit=100{query}")
    assert response.status == 200, response.raw
    found: list[dict[str, Any]] = response.json["data"]
    return found


async def test_the_audit_log_names_the_operator(make_client: ClientMaker) -> None:
    client = await make_client(admin_api_keys=SecretStr("anna:the-key-of-anna,ben:the-key-of-ben"))
    made = {}
    for key in ("the-key-of-anna", "the-key-of-ben"):
        made[key] = (await Api(client, key).post("/v1/workspaces", {"name": key})).json["id"]
    assert (await Api(client, "anna:the-key-of-anna").get("/v1/admin/audit")).is_problem(401, "unauthorized")
    events = (await Api(client, "the-key-of-anna").get("/v1/admin/audit?limit=100")).json["data"]
    actors = {event["workspace_id"]: event["actor"] for event in events}
    assert actors[made["the-key-of-anna"]] == {"kind": "admin", "id": None, "name": "anna"}
    assert actors[made["the-key-of-ben"]] == {"kind": "admin", "id": None, "name": "ben"}


async def test_the_audit_log_records_an_operators_session(client: Client, admin: Api, tenant: Tenant) -> None:
    """From the creation of a workspace to its deletion, with deletions by its own key in between."""
    keys = f"/v1/workspaces/{tenant.id}/keys"
    created = (await admin.post(keys, {"name": "ci", "scopes": ["read", "write"]})).json
    rotated = (await admin.post(f"{keys}/{created['id']}/rotate", {"overlap_s": 60})).json
    document = await tenant.upload()
    collection = (await tenant.api.post("/v1/collections", {"name": "drafts"})).json
    session = (await tenant.api.post("/v1/chat/sessions", {})).json
    key = Api(client, rotated["key"])
    assert (await key.delete(f"/v1/documents/{document['id']}")).status == 202
    assert (await key.delete(f"/v1/collections/{collection['id']}")).status == 202
    assert (await tenant.api.delete(f"/v1/chat/sessions/{session['id']}")).status == 204
    assert (await admin.delete(f"{keys}/{created['id']}")).status == 204
    assert (await admin.delete(f"/v1/workspaces/{tenant.id}")).status == 202
    recorded = [(one["action"], one["subject"]["id"], one["actor"]["kind"]) for one in await events_of(admin, tenant)]
    assert recorded[::-1] == [
        ("workspace.created", tenant.id, "admin"),
        ("key.created", recorded[-2][1], "admin"),
        ("key.created", created["id"], "admin"),
        ("key.rotated", rotated["id"], "admin"),
        ("document.deleted", document["id"], "key"),
        ("collection.deleted", collection["id"], "key"),
        ("chat_session.deleted", session["id"], "key"),
        ("key.revoked", created["id"], "admin"),
        ("workspace.deleted", tenant.id, "admin"),
    ]
    (deleted,) = await events_of(admin, tenant, "&action=document.deleted")
    assert deleted["actor"] == {"kind": "key", "id": rotated["id"], "name": "ci"}
    (was_rotated,) = await events_of(admin, tenant, "&action=key.rotated")
    assert was_rotated["details"]["replaces"] == created["id"]
    by_key = await events_of(admin, tenant, f"&actor={rotated['id']}")
    assert [one["action"] for one in by_key] == ["collection.deleted", "document.deleted"]
    assert len(await events_of(admin, tenant, "&actor=key")) == 3
    assert created["key"] not in str(await events_of(admin, tenant))


async def test_an_audit_event_records_where_a_request_came_from(admin: Api, tenant: Tenant) -> None:
    headers = {"X-Forwarded-For": "203.0.113.7", "User-Agent": "curl/8 \x80", "X-Request-Id": "by-hand-1"}
    keys = f"/v1/workspaces/{tenant.id}/keys"
    assert (await admin.post(keys, {"name": "ci"}, headers=headers)).status == 201
    event = (await events_of(admin, tenant))[0]
    assert (event["forwarded_for"], event["request_id"]) == ("203.0.113.7", "by-hand-1")
    assert event["ip"] == "127.0.0.1"
    assert event["user_agent"].startswith("curl/8")
    assert len(await events_of(admin, tenant, f"&until={event['occurred_at']}")) == 2
    assert [one["id"] for one in await events_of(admin, tenant, f"&since={event['occurred_at']}")] == [event["id"]]


async def test_the_audit_log_is_paged(admin: Api, tenant: Tenant) -> None:
    for number in range(3):
        await admin.post(f"/v1/workspaces/{tenant.id}/keys", {"name": f"key {number}"})
    every = await events_of(admin, tenant)
    paged, cursor = [], ""
    while True:
        page = (await admin.get(f"/v1/admin/audit?workspace_id={tenant.id}&limit=2{cursor}")).json
        paged += page["data"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert paged == every
    assert len(every) == 5


@pytest.mark.parametrize("query", ["action=nothing", "actor=somebody", "actor=doc_1", "since=yesterday", "who=me"])
async def test_an_invalid_audit_query_is_refused(admin: Api, query: str) -> None:
    assert (await admin.get(f"/v1/admin/audit?{query}")).is_problem(422, "invalid_request")


async def test_queue_pauses_are_recorded(admin: Api) -> None:
    assert (await admin.post("/v1/admin/queues/deletion/pause", {"reason": "a look"})).status == 200
    assert (await admin.post("/v1/admin/queues/deletion/resume")).status == 200
    resumed, paused = (await admin.get("/v1/admin/audit?limit=2")).json["data"]
    assert (paused["action"], paused["details"], paused["workspace_id"]) == ("queue.paused", {"reason": "a look"}, None)
    assert (resumed["action"], resumed["subject"]) == ("queue.resumed", {"kind": "queue", "id": "deletion"})


async def test_refused_and_repeated_requests_are_not_recorded(admin: Api, tenant: Tenant) -> None:
    document = await tenant.upload()
    for _ in range(2):
        assert (await tenant.api.delete(f"/v1/documents/{document['id']}")).status == 202
    unknown = f"/v1/workspaces/{tenant.id}/keys/{format_id('key', new_id())}"
    assert (await admin.delete(unknown)).status == 404
    header = {"Idempotency-Key": new_id().hex}
    for _ in range(2):
        assert (await admin.post(f"/v1/workspaces/{tenant.id}/keys", {"name": "once"}, headers=header)).status == 201
    recorded = [one["action"] for one in await events_of(admin, tenant)]
    assert recorded == ["key.created", "document.deleted", "key.created", "workspace.created"]


async def test_an_action_that_cannot_be_recorded_is_rolled_back(admin: Api, tenant: Tenant, settings: Settings) -> None:
    async with owner_of(settings) as owner:
        await owner.execute(
            "CREATE TRIGGER broken BEFORE INSERT ON audit_events FOR EACH ROW"
            " WHEN (NEW.user_agent = 'refused') EXECUTE FUNCTION refuse_change()"
        )
        headers = {"User-Agent": "refused"}
        listed = (await admin.get(f"/v1/workspaces/{tenant.id}/keys")).json["data"]
        refused = await admin.call("DELETE", f"/v1/workspaces/{tenant.id}/keys/{listed[0]['id']}", headers=headers)
        assert refused.is_problem(500, "internal")
        assert (await tenant.api.get("/v1/workspace")).status == 200
        assert (await admin.call("DELETE", f"/v1/workspaces/{tenant.id}", headers=headers)).status == 500
        assert (await tenant.api.get("/v1/workspace")).status == 200
        await owner.execute("DROP TRIGGER broken ON audit_events")


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit_events SET actor_name = 'nobody'", "DELETE FROM audit_events", "TRUNCATE audit_events"],
)
async def test_audit_events_cannot_be_changed(tenant: Tenant, settings: Settings, statement: str) -> None:
    assert tenant.id
    async with owner_of(settings) as owner:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only grows"):
            await owner.execute(statement)

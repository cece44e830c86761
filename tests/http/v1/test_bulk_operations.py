"""Bulk operations over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.http.conftest import Api, Tenant


async def test_an_operation_is_accepted_shown_and_listed(tenant: Tenant) -> None:
    await tenant.upload()
    accepted = await tenant.api.post("/v1/documents/bulk-delete", {"all": True})
    assert accepted.status == 202
    shown = accepted.json
    assert (shown["action"], shown["status"], shown["matched"], shown["progress"]) == ("delete", "pending", 1, 0)
    assert (await tenant.api.get(f"/v1/bulk-operations/{shown['id']}")).json == shown
    second = (await tenant.api.post("/v1/documents/bulk-reingest", {"status": "ready"})).json
    first_page = (await tenant.api.get("/v1/bulk-operations?limit=1")).json
    assert [found["id"] for found in first_page["data"]] == [second["id"]]
    last_page = (await tenant.api.get(f"/v1/bulk-operations?cursor={first_page['next_cursor']}")).json
    assert [found["id"] for found in last_page["data"]] == [shown["id"]]


async def test_a_dry_run_only_counts(tenant: Tenant) -> None:
    for team in ("hr", "operations", "operations"):
        document = await tenant.upload(f"of {team}, {len(team)}".encode() + team.encode(), filename=f"{team}.txt")
        await tenant.api.patch(f"/v1/documents/{document['id']}", {"attributes": {"team": team}})
    wanted = {"filters": {"type": "eq", "key": "team", "value": "hr"}, "dry_run": True}
    response = await tenant.api.post("/v1/documents/bulk-delete", wanted)
    assert (response.status, response.json) == (200, {"dry_run": True, "matched": 1})
    assert (await tenant.api.get("/v1/bulk-operations")).json["data"] == []


@pytest.mark.parametrize(
    "body", [{}, {"all": False}, {"all": True, "status": "ready"}, {"purge_file": False}, {"filters": None}]
)
async def test_nothing_is_selected_by_accident(tenant: Tenant, body: dict[str, Any]) -> None:
    response = await tenant.api.post("/v1/documents/bulk-delete", body)
    assert response.is_problem(422, "invalid_request")


async def test_a_bulk_deletion_is_recorded_in_the_audit_log(tenant: Tenant, admin: Api) -> None:
    accepted = (await tenant.api.post("/v1/documents/bulk-delete", {"status": "failed"})).json
    events = (await admin.get(f"/v1/admin/audit?workspace_id={tenant.id}&action=documents.deleted")).json["data"]
    assert [event["subject"]["id"] for event in events] == [accepted["id"]]
    assert events[0]["actor"]["kind"] == "key"


async def test_a_repeated_request_starts_one_operation(tenant: Tenant) -> None:
    key = {"Idempotency-Key": "all of them"}
    first, again = [
        await tenant.api.post("/v1/documents/bulk-reingest", {"all": True}, headers=key) for _try in range(2)
    ]
    assert first.json == again.json
    assert len((await tenant.api.get("/v1/bulk-operations")).json["data"]) == 1

"""Deletions over HTTP and their receipts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ragsvc.db import deletion_receipts, workspaces
from ragsvc.domain.deletions import DeletionStatus, StoreReceipt
from ragsvc.domain.documents import FailureInfo
from ragsvc.http.contract.ids import parse_id

if TYPE_CHECKING:
    from ragsvc.resources import Resources
    from tests.http.conftest import Api, Tenant


async def test_a_deletion_is_pending_then_shows_its_receipt(tenant: Tenant, resources: Resources) -> None:
    document = await tenant.upload()
    deletion_id = (await tenant.api.delete(f"/v1/documents/{document['id']}")).json["deletion_id"]
    path = f"/v1/deletions/{deletion_id}"
    pending = (await tenant.api.get(path)).json
    assert pending == {
        "id": deletion_id,
        "subject": {"kind": "document", "id": document["id"]},
        "status": "pending",
        "requested_at": pending["requested_at"],
        "completed_at": None,
        "verified_at": None,
        "stores": [],
        "error": None,
    }
    retained = datetime(2030, 1, 1, tzinfo=UTC)
    stores = [StoreReceipt("chunks", 12, 0, 0), StoreReceipt("embedding_cache", 0, 0, 0, retained)]
    async with resources.pool.acquire() as conn:
        await deletion_receipts.complete_deletion(conn, tenant.uuid, parse_id("del", deletion_id), stores=stores)
    done = (await tenant.api.get(path)).json
    assert done["status"] == "completed"
    assert done["verified_at"].endswith("Z")
    assert done["stores"] == [
        {"store": "chunks", "removed": 12, "redacted": 0, "remaining": 0, "retained_until": None, "counted": True},
        {
            "store": "embedding_cache",
            "removed": 0,
            "redacted": 0,
            "remaining": 0,
            "retained_until": "2030-01-01T00:00:00.000000Z",
            "counted": True,
        },
    ]


async def test_a_deletion_that_failed_says_why(tenant: Tenant, resources: Resources) -> None:
    document = await tenant.upload()
    deletion_id = (await tenant.api.delete(f"/v1/documents/{document['id']}")).json["deletion_id"]
    failure = FailureInfo(code="storage_rejected", message="the store answered AccessDenied", retryable=True)
    async with resources.pool.acquire() as conn:
        await deletion_receipts.update_deletion_state(
            conn, tenant.uuid, parse_id("del", deletion_id), status=DeletionStatus.FAILED, error=failure
        )
    shown = (await tenant.api.get(f"/v1/deletions/{deletion_id}")).json
    assert (shown["status"], shown["error"]["code"]) == ("failed", "storage_rejected")


async def test_deletions_are_listed_newest_first(tenant: Tenant) -> None:
    created = []
    for number in range(3):
        document = await tenant.upload(f"text {number}".encode())
        created.append((await tenant.api.delete(f"/v1/documents/{document['id']}")).json["deletion_id"])
    first = (await tenant.api.get("/v1/deletions?limit=2")).json
    second = (await tenant.api.get(f"/v1/deletions?limit=2&cursor={first['next_cursor']}")).json
    assert [deletion["id"] for deletion in first["data"] + second["data"]] == created[::-1]


async def test_the_operator_can_read_the_receipt_of_a_deleted_workspace(
    tenant: Tenant, other: Tenant, admin: Api, resources: Resources
) -> None:
    deletion_id = (await admin.delete(f"/v1/workspaces/{tenant.id}")).json["deletion_id"]
    path = f"/v1/deletions/{deletion_id}"
    async with resources.pool.acquire() as conn:
        await deletion_receipts.complete_deletion(conn, tenant.uuid, parse_id("del", deletion_id), stores=[])
        await workspaces.delete_workspace(conn, tenant.uuid)
    assert (await tenant.api.get(path)).is_problem(401, "unauthorized")
    assert (await other.api.get(path)).is_problem(404, "not_found")
    shown = (await admin.get(path)).json
    assert (shown["subject"], shown["status"]) == ({"kind": "workspace", "id": tenant.id}, "completed")

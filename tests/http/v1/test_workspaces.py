"""Workspaces: the operator creates, lists and deletes them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from ragsvc.db import collections, workspaces
from ragsvc.domain.ids import format_id
from ragsvc.http.contract.ids import parse_id
from tests.http.conftest import make_tenant

if TYPE_CHECKING:
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings
    from tests.http.conftest import Api, Client, Tenant

NOBODY = UUID(int=7)


async def test_a_workspace_is_created_with_its_bucket_and_default_collection(
    admin: Api, resources: Resources, settings: Settings
) -> None:
    response = await admin.post("/v1/workspaces", {"name": "Ünïcode & Sons"})
    assert response.status == 201
    created = response.json
    assert set(created) == {"id", "name", "bucket", "created_at"}
    assert created["name"] == "Ünïcode & Sons"
    assert created["bucket"] == f"{settings.stores.s3_bucket_prefix}-{created['id'].removeprefix('ws_')}"
    assert created["created_at"].endswith("Z")
    assert await resources.storage.count_objects(created["bucket"]) == 0
    async with resources.pool.acquire() as conn:
        default = await collections.select_default_collection(conn, parse_id("ws", created["id"]))
    assert default is not None
    assert default.name == "default"


@pytest.mark.parametrize(
    "body", [{}, {"name": ""}, {"name": "x" * 201}, {"name": 1}, {"name": "a", "bucket": "mine"}, []]
)
async def test_an_invalid_workspace_leaves_nothing(admin: Api, resources: Resources, body: object) -> None:
    async with resources.pool.acquire() as conn:
        before = await workspaces.select_workspaces(conn, limit=10_000)
        assert (await admin.call("POST", "/v1/workspaces", json=body)).is_problem(422, "invalid_request")
        assert await workspaces.select_workspaces(conn, limit=10_000) == before


async def test_a_workspace_is_shown(admin: Api, tenant: Tenant) -> None:
    response = await admin.get(f"/v1/workspaces/{tenant.id}")
    assert response.status == 200
    assert response.json["bucket"] == tenant.bucket
    assert response.json in (await admin.get("/v1/workspaces")).json["data"]


async def test_workspaces_are_listed_newest_first_page_by_page(client: Client, admin: Api) -> None:
    created = [(await make_tenant(client, admin, f"w{number}")).id for number in range(5)]
    seen: list[str] = []
    path: str | None = "/v1/workspaces?limit=2"
    while path is not None and len(seen) < len(created):
        page = (await admin.get(path)).json
        assert len(page["data"]) <= 2
        seen += [workspace["id"] for workspace in page["data"]]
        path = f"/v1/workspaces?limit=2&cursor={page['next_cursor']}" if page["next_cursor"] else None
    assert seen[: len(created)] == created[::-1]


@pytest.mark.parametrize("workspace_id", ["nonsense", "ws_1", format_id("col", NOBODY), format_id("ws", NOBODY)])
async def test_an_unknown_workspace_is_not_found(admin: Api, workspace_id: str) -> None:
    path = f"/v1/workspaces/{workspace_id}"
    assert (await admin.get(path)).is_problem(404, "not_found")
    assert (await admin.delete(path)).is_problem(404, "not_found")
    assert (await admin.get(f"{path}/keys")).is_problem(404, "not_found")
    assert (await admin.post(f"{path}/keys", {"name": "a key"})).is_problem(404, "not_found")


async def test_a_deletion_is_accepted_once(admin: Api, tenant: Tenant) -> None:
    first = await admin.delete(f"/v1/workspaces/{tenant.id}")
    again = await admin.delete(f"/v1/workspaces/{tenant.id}")
    assert (first.status, again.status) == (202, 202)
    assert set(first.json) == {"deletion_id"}
    assert first.json == again.json
    assert (await admin.post(f"/v1/workspaces/{tenant.id}/keys", {"name": "late"})).is_problem(404, "not_found")


async def test_a_new_workspace_has_the_quota_of_the_settings(
    client: Client, admin: Api, tenant: Tenant, settings: Settings
) -> None:
    assert client
    assert admin
    response = await tenant.api.get("/v1/workspace")
    assert response.json == {
        "id": tenant.id,
        "name": "acme",
        "usage": {"documents": 0, "chunks": 0, "storage_bytes": 0},
        "quota_bytes": settings.api.workspace_quota_bytes,
    }


async def test_a_workspace_shows_its_usage(tenant: Tenant, ready: dict[str, object]) -> None:
    usage = (await tenant.api.get("/v1/workspace")).json["usage"]
    assert usage == {"documents": 1, "chunks": 2, "storage_bytes": ready["size_bytes"]}

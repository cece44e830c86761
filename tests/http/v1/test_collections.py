"""Collections: creation, changes, listing, deletion, and the validation of their chunking settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from ragsvc.domain.ids import format_id

if TYPE_CHECKING:
    from tests.http.conftest import ApiResponse, Tenant


def wrong_fields(response: ApiResponse) -> list[str]:
    """Return the names of the invalid fields."""
    assert response.is_problem(422, "invalid_request")
    return [error["field"] for error in response.json["errors"]]


async def create(tenant: Tenant, name: str = "manuals", **fields: object) -> dict[str, Any]:
    """Create a collection."""
    response = await tenant.api.post("/v1/collections", {"name": name, **fields})
    assert response.status == 201, response.raw
    created: dict[str, Any] = response.json
    return created


async def test_a_collection_is_created_and_shown(tenant: Tenant) -> None:
    created = await create(tenant, chunking={"max_tokens": 200, "overlap_tokens": 20}, metadata={"a": {"b": [1, None]}})
    assert created["object"] == "collection"
    assert created["chunking"] == {"max_tokens": 200, "overlap_tokens": 20}
    assert created["metadata"] == {"a": {"b": [1, None]}}
    assert created["is_default"] is False
    assert (await tenant.api.get(f"/v1/collections/{created['id']}")).json == created


async def test_every_workspace_has_a_default_collection(tenant: Tenant) -> None:
    (default,) = (await tenant.api.get("/v1/collections")).json["data"]
    assert (default["name"], default["is_default"], default["chunking"]) == ("default", True, None)


async def test_names_are_unique_per_workspace(tenant: Tenant, other: Tenant) -> None:
    created = await create(tenant)
    assert (await tenant.api.post("/v1/collections", {"name": "manuals"})).is_problem(409, "name_taken")
    renamed = await tenant.api.patch(f"/v1/collections/{created['id']}", {"name": "default"})
    assert renamed.is_problem(409, "name_taken")
    assert (await create(other))["name"] == "manuals"


async def test_a_patch_leaves_absent_fields_unchanged(tenant: Tenant) -> None:
    created = await create(tenant, chunking={"max_tokens": 200, "overlap_tokens": 20}, metadata={"a": 1})
    path = f"/v1/collections/{created['id']}"
    renamed = (await tenant.api.patch(path, {"name": "handbooks"})).json
    assert renamed == {**created, "name": "handbooks", "updated_at": renamed["updated_at"]}
    assert renamed["updated_at"] > created["updated_at"]
    reset = (await tenant.api.patch(path, {"chunking": None, "metadata": {}})).json
    assert (reset["name"], reset["chunking"], reset["metadata"]) == ("handbooks", None, {})


async def test_a_chunk_size_that_the_model_does_not_accept_is_refused_with_the_reason(tenant: Tenant) -> None:
    response = await tenant.api.post(
        "/v1/collections", {"name": "big", "chunking": {"max_tokens": 257, "overlap_tokens": 0}}
    )
    assert wrong_fields(response) == ["chunking.max_tokens"]
    assert "256 tokens" in response.json["detail"]
    assert "all-MiniLM-L6-v2" in response.json["detail"]


@pytest.mark.parametrize(
    ("chunking", "field"),
    [
        ({"max_tokens": 15, "overlap_tokens": 0}, "chunking.max_tokens"),
        ({"max_tokens": 100, "overlap_tokens": 100}, "chunking.overlap_tokens"),
        ({"max_tokens": 100, "overlap_tokens": -1}, "chunking.overlap_tokens"),
        ({"max_tokens": 100}, "chunking.overlap_tokens"),
        ({"max_tokens": "100", "overlap_tokens": 0}, "chunking.max_tokens"),
        ({"max_tokens": 100, "overlap_tokens": 0, "separator": "\n"}, "chunking.separator"),
        (7, "chunking"),
    ],
)
async def test_an_invalid_chunking_is_refused(tenant: Tenant, chunking: object, field: str) -> None:
    created = await create(tenant)
    assert wrong_fields(await tenant.api.post("/v1/collections", {"name": "x", "chunking": chunking})) == [field]
    changed = await tenant.api.patch(f"/v1/collections/{created['id']}", {"chunking": chunking})
    assert wrong_fields(changed) == [field]


@pytest.mark.parametrize("body", [{"name": None}, {"name": ""}, {"metadata": []}, {"is_default": True}])
async def test_an_invalid_patch_changes_nothing(tenant: Tenant, body: dict[str, object]) -> None:
    created = await create(tenant)
    path = f"/v1/collections/{created['id']}"
    assert wrong_fields(await tenant.api.patch(path, body)) == list(body)
    assert (await tenant.api.get(path)).json == created


async def test_a_deleted_collection_is_gone_immediately_and_its_name_is_free(tenant: Tenant) -> None:
    created = await create(tenant)
    path = f"/v1/collections/{created['id']}"
    first = await tenant.api.delete(path)
    assert first.status == 202
    assert (await tenant.api.delete(path)).json == first.json
    assert (await tenant.api.get(path)).is_problem(404, "not_found")
    assert created["id"] not in {entry["id"] for entry in (await tenant.api.get("/v1/collections")).json["data"]}
    assert (await create(tenant))["id"] != created["id"]
    deletion = (await tenant.api.get(f"/v1/deletions/{first.json['deletion_id']}")).json
    assert deletion["subject"] == {"kind": "collection", "id": created["id"]}


async def test_the_default_collection_cannot_be_deleted(tenant: Tenant) -> None:
    (default,) = (await tenant.api.get("/v1/collections")).json["data"]
    assert (await tenant.api.delete(f"/v1/collections/{default['id']}")).is_problem(409, "default_collection")


async def test_an_unknown_collection_is_not_found_anywhere(tenant: Tenant) -> None:
    unknown = format_id("col", uuid4())
    assert (await tenant.api.get(f"/v1/documents?collection_id={unknown}")).is_problem(404, "not_found")
    attach = {"file_id": format_id("file", uuid4()), "collection_id": unknown}
    assert (await tenant.api.post("/v1/documents", attach)).is_problem(404, "not_found")

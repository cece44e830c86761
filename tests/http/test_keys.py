"""Keys: shown once, listed without their secret, refused when they do not fit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from ragsvc.http.ids import format_id

if TYPE_CHECKING:
    from tests.http.conftest import Api, Tenant

FUTURE = (datetime.now(UTC) + timedelta(days=1)).isoformat()
PAST = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()


async def test_a_key_is_shown_with_its_secret_once(admin: Api, tenant: Tenant) -> None:
    path = f"/v1/workspaces/{tenant.id}/keys"
    answer = await admin.post(path, {"name": "ci", "scopes": ["upload", "read"], "expires_at": FUTURE})
    assert answer.status == 201
    made = answer.json
    assert set(made) == {"id", "name", "key", "key_prefix", "scopes", "expires_at", "created_at"}
    assert made["key"].startswith(made["key_prefix"])
    assert made["scopes"] == ["read", "upload"]
    assert datetime.fromisoformat(made["expires_at"]) == datetime.fromisoformat(FUTURE)
    secret = made.pop("key")
    listed = await admin.get(path)
    assert made in listed.json["data"]
    assert secret.encode() not in listed.raw


async def test_two_keys_are_never_alike(admin: Api, tenant: Tenant) -> None:
    path = f"/v1/workspaces/{tenant.id}/keys"
    secrets = {(await admin.post(path, {"name": "same"})).json["key"] for _ in range(5)}
    assert len(secrets) == 5
    assert all(len(secret) >= 43 for secret in secrets)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "k", "scopes": []}, "scopes"),
        ({"name": "k", "scopes": ["admin"]}, "scopes.0"),
        ({"name": "k", "scopes": "read"}, "scopes"),
        ({"name": "k", "expires_at": PAST}, "expires_at"),
        ({"name": "k", "expires_at": "tomorrow"}, "expires_at"),
        ({"name": "k", "key": "chosen"}, "key"),
    ],
)
async def test_a_key_that_does_not_fit_is_refused(
    admin: Api, tenant: Tenant, body: dict[str, object], field: str
) -> None:
    answer = await admin.post(f"/v1/workspaces/{tenant.id}/keys", body)
    assert answer.is_problem(422, "invalid_request")
    assert [error["field"] for error in answer.json["errors"]] == [field]


async def test_a_revoked_key_is_gone_from_the_list(admin: Api, tenant: Tenant) -> None:
    path = f"/v1/workspaces/{tenant.id}/keys"
    (key,) = (await admin.get(path)).json["data"]
    assert (await admin.delete(f"{path}/{key['id']}")).status == 204
    assert (await admin.get(path)).json == {"data": [], "next_cursor": None}
    assert (await admin.delete(f"{path}/{key['id']}")).is_problem(404, "not_found")


async def test_a_key_cannot_be_revoked_through_another_workspace(admin: Api, tenant: Tenant, other: Tenant) -> None:
    (key,) = (await admin.get(f"/v1/workspaces/{tenant.id}/keys")).json["data"]
    assert (await admin.delete(f"/v1/workspaces/{other.id}/keys/{key['id']}")).is_problem(404, "not_found")
    unknown = f"/v1/workspaces/{tenant.id}/keys/{format_id('key', uuid4())}"
    assert (await admin.delete(unknown)).is_problem(404, "not_found")
    assert (await tenant.api.get("/v1/workspace")).status == 200

"""API keys: creation, listing without their secrets, rotation and revocation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from ragsvc.domain.ids import format_id
from ragsvc.http.contract.ids import parse_id
from tests.http.conftest import Api
from tests.support.polling import until

if TYPE_CHECKING:
    from ragsvc.resources import Resources
    from tests.http.conftest import Client, Tenant

FUTURE = (datetime.now(UTC) + timedelta(days=1)).isoformat()
PAST = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()


async def test_a_key_is_shown_with_its_secret_once(admin: Api, tenant: Tenant) -> None:
    path = f"/v1/workspaces/{tenant.id}/keys"
    response = await admin.post(path, {"name": "ci", "scopes": ["upload", "read"], "expires_at": FUTURE})
    assert response.status == 201
    created = response.json
    assert set(created) == {"id", "name", "key", "key_prefix", "scopes", "expires_at", "created_at"}
    assert created["key"].startswith(created["key_prefix"])
    assert created["scopes"] == ["read", "upload"]
    assert datetime.fromisoformat(created["expires_at"]) == datetime.fromisoformat(FUTURE)
    secret = created.pop("key")
    listed = await admin.get(path)
    assert {**created, "last_used_at": None, "replaced_by": None} in listed.json["data"]
    assert secret.encode() not in listed.raw


async def test_every_key_is_different(admin: Api, tenant: Tenant) -> None:
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
async def test_an_invalid_key_request_is_refused(
    admin: Api, tenant: Tenant, body: dict[str, object], field: str
) -> None:
    response = await admin.post(f"/v1/workspaces/{tenant.id}/keys", body)
    assert response.is_problem(422, "invalid_request")
    assert [error["field"] for error in response.json["errors"]] == [field]


async def test_a_revoked_key_is_not_listed(admin: Api, tenant: Tenant) -> None:
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


async def listed_key(admin: Api, tenant: Tenant, key_id: str) -> dict[str, Any]:
    """Return a key as the list shows it."""
    listed = (await admin.get(f"/v1/workspaces/{tenant.id}/keys")).json["data"]
    return next(key for key in listed if key["id"] == key_id)


async def test_a_rotated_key_still_works_alongside_its_successor(client: Client, admin: Api, tenant: Tenant) -> None:
    path = f"/v1/workspaces/{tenant.id}/keys"
    old = (await admin.post(path, {"name": "ci", "scopes": ["read"]})).json
    before = datetime.now(UTC)
    response = await admin.post(f"{path}/{old['id']}/rotate", {"overlap_s": 3600})
    assert response.status == 201
    new = response.json
    assert (new["name"], new["scopes"], new["expires_at"]) == ("ci", ["read"], None)
    assert new["id"] != old["id"]
    for secret in (old["key"], new["key"]):
        assert (await Api(client, secret).get("/v1/workspace")).status == 200
    shown = await listed_key(admin, tenant, old["id"])
    assert shown["replaced_by"] == new["id"]
    ends_in = datetime.fromisoformat(shown["expires_at"]) - before
    assert timedelta(minutes=59) < ends_in < timedelta(minutes=61)


async def test_a_key_rotated_without_an_overlap_expires_immediately(client: Client, admin: Api, tenant: Tenant) -> None:
    path = f"/v1/workspaces/{tenant.id}/keys"
    old = (await admin.post(path, {"name": "leaked"})).json
    new = (await admin.post(f"{path}/{old['id']}/rotate", {"overlap_s": 0})).json
    assert (await Api(client, old["key"]).get("/v1/workspace")).is_problem(401, "unauthorized")
    assert (await Api(client, new["key"]).get("/v1/workspace")).status == 200


async def test_a_successor_inherits_the_keys_expiry(admin: Api, tenant: Tenant) -> None:
    path = f"/v1/workspaces/{tenant.id}/keys"
    old = (await admin.post(path, {"name": "for a day", "expires_at": FUTURE})).json
    new = (await admin.post(f"{path}/{old['id']}/rotate")).json
    life = datetime.fromisoformat(new["expires_at"]) - datetime.fromisoformat(new["created_at"])
    assert life == datetime.fromisoformat(old["expires_at"]) - datetime.fromisoformat(old["created_at"])
    # Rotation does not extend the old key's expiry.
    assert (await listed_key(admin, tenant, old["id"]))["expires_at"] == old["expires_at"]
    chosen = (await admin.post(f"{path}/{new['id']}/rotate", {"expires_at": FUTURE})).json
    assert datetime.fromisoformat(chosen["expires_at"]) == datetime.fromisoformat(FUTURE)


async def test_a_key_has_one_successor(admin: Api, tenant: Tenant, other: Tenant) -> None:
    path = f"/v1/workspaces/{tenant.id}/keys"
    old = (await admin.post(path, {"name": "ci"})).json
    header = {"Idempotency-Key": "rotate once"}
    new = await admin.post(f"{path}/{old['id']}/rotate", headers=header)
    again = await admin.post(f"{path}/{old['id']}/rotate", headers=header)
    assert (again.status, again.json) == (201, new.json)
    assert (await admin.post(f"{path}/{old['id']}/rotate")).is_problem(409, "key_rotated")
    elsewhere = f"/v1/workspaces/{other.id}/keys/{new.json['id']}/rotate"
    assert (await admin.post(elsewhere)).is_problem(404, "not_found")
    assert (await admin.delete(f"{path}/{new.json['id']}")).status == 204
    assert (await admin.post(f"{path}/{new.json['id']}/rotate")).is_problem(404, "not_found")


@pytest.mark.parametrize("body", [{"overlap_s": -1}, {"overlap_s": 31 * 86400}, {"expires_at": PAST}, {"name": "x"}])
async def test_an_invalid_rotation_is_refused(admin: Api, tenant: Tenant, body: dict[str, object]) -> None:
    path = f"/v1/workspaces/{tenant.id}/keys"
    key = (await admin.post(path, {"name": "ci"})).json
    assert (await admin.post(f"{path}/{key['id']}/rotate", body)).is_problem(422, "invalid_request")
    assert (await listed_key(admin, tenant, key["id"]))["replaced_by"] is None


async def test_a_keys_last_use_is_shown_and_written_once_a_minute(
    client: Client, admin: Api, tenant: Tenant, resources: Resources
) -> None:
    created = (await admin.post(f"/v1/workspaces/{tenant.id}/keys", {"name": "used"})).json
    api = Api(client, created["key"])

    async def last_use() -> datetime | None:
        shown = (await listed_key(admin, tenant, created["id"]))["last_used_at"]
        return datetime.fromisoformat(shown) if shown else None

    assert await last_use() is None
    assert (await api.get("/v1/workspace")).status == 200
    first = await until(last_use, what="the first use")
    for _ in range(5):
        await api.get("/v1/workspace")
    assert await last_use() == first
    async with resources.pool.acquire() as conn:
        await conn.execute(
            "UPDATE api_keys SET last_used_at = now() - interval '2 minutes' WHERE workspace_id = $1 AND id = $2",
            tenant.uuid,
            parse_id("key", created["id"]),
        )

    async def noted_again() -> bool:
        await api.get("/v1/workspace")
        noted = await last_use()
        return noted is not None and noted >= first

    await until(noted_again, what="the later use")

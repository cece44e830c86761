"""/v1/webhooks: webhooks are created, shown and deleted with a workspace's keys."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from tests.http.conftest import Api, make_key, operator_of

if TYPE_CHECKING:
    from tests.http.conftest import Tenant

ORIGIN = "https://hooks.example.com"


async def create(api: Api, url: str = f"{ORIGIN}/in", **fields: object) -> dict[str, Any]:
    response = await api.post("/v1/webhooks", {"url": url, **fields})
    assert response.status == 201, response.raw
    created: dict[str, Any] = response.json
    return created


async def test_the_secret_is_shown_once(tenant: Tenant) -> None:
    created = await create(tenant.api, events=["document.deleted", "document.ready"])
    secret = created.pop("secret")
    assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
    assert created["events"] == ["document.ready", "document.deleted"]
    assert (await tenant.api.get(f"/v1/webhooks/{created['id']}")).json == created
    assert (await tenant.api.get("/v1/webhooks")).json["data"] == [created]


async def test_a_repeated_request_shows_the_same_secret(tenant: Tenant) -> None:
    header = {"Idempotency-Key": "one webhook"}
    first, again = [await tenant.api.post("/v1/webhooks", {"url": ORIGIN}, headers=header) for _ in range(2)]
    assert (first.status, again.status) == (201, 201)
    assert first.json == again.json
    assert len((await tenant.api.get("/v1/webhooks")).json["data"]) == 1


async def test_a_url_that_is_not_allowed_is_refused(tenant: Tenant) -> None:
    response = await tenant.api.post("/v1/webhooks", {"url": "http://169.254.169.254/latest/meta-data"})
    assert response.is_problem(422, "webhook_refused")
    assert "WEBHOOK_ALLOWED_ORIGINS" in response.json["detail"]
    assert (await tenant.api.get("/v1/webhooks")).json["data"] == []


@pytest.mark.parametrize("fields", [{"events": []}, {"events": ["document.born"]}, {"url": ""}, {"url": None}])
async def test_invalid_fields_are_named(tenant: Tenant, fields: dict[str, object]) -> None:
    response = await tenant.api.post("/v1/webhooks", {"url": ORIGIN, **fields})
    assert response.is_problem(422, "invalid_request"), response.raw


async def test_a_workspace_has_at_most_twenty_webhooks(tenant: Tenant) -> None:
    for _ in range(20):
        await create(tenant.api)
    response = await tenant.api.post("/v1/webhooks", {"url": ORIGIN})
    assert response.is_problem(409, "too_many_webhooks")


async def test_a_deleted_webhook_is_not_found(tenant: Tenant) -> None:
    path = f"/v1/webhooks/{(await create(tenant.api))['id']}"
    assert (await tenant.api.delete(path)).status == 204
    assert (await tenant.api.get(path)).is_problem(404, "not_found")
    assert (await tenant.api.delete(path)).is_problem(404, "not_found")


async def test_creation_and_deletion_are_recorded_in_the_audit_log(tenant: Tenant) -> None:
    created = await create(tenant.api)
    await tenant.api.delete(f"/v1/webhooks/{created['id']}")
    admin = operator_of(tenant.api.client)
    events = (await admin.get(f"/v1/admin/audit?workspace_id={tenant.id}")).json["data"]
    recorded = [(one["action"], one["subject"]["id"]) for one in events if one["subject"]["kind"] == "webhook"]
    assert recorded == [("webhook.deleted", created["id"]), ("webhook.created", created["id"])]
    assert created["secret"] not in str(events)


async def test_a_read_only_key_creates_no_webhook(tenant: Tenant) -> None:
    client = tenant.api.client
    reader = Api(client, await make_key(operator_of(client), tenant.id, scopes=["read"]))
    assert (await reader.post("/v1/webhooks", {"url": ORIGIN})).is_problem(403, "forbidden")
    assert (await reader.get("/v1/webhooks")).status == 200

"""/v1/webhooks: made, shown and removed by a workspace's keys."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from tests.http.conftest import Api, make_key, operator_of

if TYPE_CHECKING:
    from tests.http.conftest import Tenant

ORIGIN = "https://hooks.example.com"


async def make(api: Api, url: str = f"{ORIGIN}/in", **fields: object) -> dict[str, Any]:
    answer = await api.post("/v1/webhooks", {"url": url, **fields})
    assert answer.status == 201, answer.raw
    made: dict[str, Any] = answer.json
    return made


async def test_the_secret_is_shown_once(tenant: Tenant) -> None:
    made = await make(tenant.api, events=["document.deleted", "document.ready"])
    secret = made.pop("secret")
    assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
    assert made["events"] == ["document.ready", "document.deleted"]
    assert (await tenant.api.get(f"/v1/webhooks/{made['id']}")).json == made
    assert (await tenant.api.get("/v1/webhooks")).json["data"] == [made]


async def test_a_client_that_asks_again_is_shown_the_same_secret(tenant: Tenant) -> None:
    header = {"Idempotency-Key": "one webhook"}
    first, again = [await tenant.api.post("/v1/webhooks", {"url": ORIGIN}, headers=header) for _ in range(2)]
    assert (first.status, again.status) == (201, 201)
    assert first.json == again.json
    assert len((await tenant.api.get("/v1/webhooks")).json["data"]) == 1


async def test_a_url_that_is_not_allowed_is_refused(tenant: Tenant) -> None:
    answer = await tenant.api.post("/v1/webhooks", {"url": "http://169.254.169.254/latest/meta-data"})
    assert answer.is_problem(422, "webhook_refused")
    assert "WEBHOOK_ALLOWED_ORIGINS" in answer.json["detail"]
    assert (await tenant.api.get("/v1/webhooks")).json["data"] == []


@pytest.mark.parametrize("fields", [{"events": []}, {"events": ["document.born"]}, {"url": ""}, {"url": None}])
async def test_what_is_malformed_is_named(tenant: Tenant, fields: dict[str, object]) -> None:
    answer = await tenant.api.post("/v1/webhooks", {"url": ORIGIN, **fields})
    assert answer.is_problem(422, "invalid_request"), answer.raw


async def test_a_workspace_has_at_most_twenty(tenant: Tenant) -> None:
    for _ in range(20):
        await make(tenant.api)
    answer = await tenant.api.post("/v1/webhooks", {"url": ORIGIN})
    assert answer.is_problem(409, "too_many_webhooks")


async def test_a_removed_webhook_is_unknown(tenant: Tenant) -> None:
    path = f"/v1/webhooks/{(await make(tenant.api))['id']}"
    assert (await tenant.api.delete(path)).status == 204
    assert (await tenant.api.get(path)).is_problem(404, "not_found")
    assert (await tenant.api.delete(path)).is_problem(404, "not_found")


async def test_making_and_removing_are_kept(tenant: Tenant) -> None:
    made = await make(tenant.api)
    await tenant.api.delete(f"/v1/webhooks/{made['id']}")
    admin = operator_of(tenant.api.client)
    events = (await admin.get(f"/v1/admin/audit?workspace_id={tenant.id}")).json["data"]
    told = [(one["action"], one["subject"]["id"]) for one in events if one["subject"]["kind"] == "webhook"]
    assert told == [("webhook.deleted", made["id"]), ("webhook.created", made["id"])]
    assert made["secret"] not in str(events)


async def test_a_key_that_only_reads_makes_none(tenant: Tenant) -> None:
    client = tenant.api.client
    reader = Api(client, await make_key(operator_of(client), tenant.id, scopes=["read"]))
    assert (await reader.post("/v1/webhooks", {"url": ORIGIN})).is_problem(403, "forbidden")
    assert (await reader.get("/v1/webhooks")).status == 200

"""A key over its rate limit gets 429 with Retry-After, without an effect on other keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.http.limits.client_rate import RATES
from ragsvc.telemetry.metrics import REGISTRY
from tests.http.conftest import Api, ApiResponse, make_key, make_tenant, operator_of
from tests.http.support.documents import form

if TYPE_CHECKING:
    from tests.http.conftest import ClientMaker

BURST = 3


def left(response: ApiResponse) -> tuple[str, ...]:
    return tuple(response.headers[f"RateLimit-{name}"] for name in ("Limit", "Remaining"))


async def test_a_key_over_its_rate_limit_is_refused(make_client: ClientMaker) -> None:
    client = await make_client(rate_limit_rps=0.01, rate_limit_burst=BURST)
    tenant = await make_tenant(client, operator_of(client), "acme")
    before = REGISTRY.get_sample_value("ragsvc_requests_refused_total", {"code": "rate_limited"}) or 0
    responses = [await tenant.api.get("/v1/workspace") for _ in range(BURST)]
    assert [response.status for response in responses] == [200] * BURST
    assert [left(response) for response in responses] == [("3", "2"), ("3", "1"), ("3", "0")]
    refused = await tenant.api.get("/v1/workspace")
    assert refused.is_problem(429, "rate_limited")
    retry_after_s = int(refused.headers["Retry-After"])
    assert 0 < retry_after_s <= 100
    # The other two requests of the burst become available after 100 s each.
    assert int(refused.headers["RateLimit-Reset"]) == retry_after_s + 200
    assert left(refused) == ("3", "0")
    assert REGISTRY.get_sample_value("ragsvc_requests_refused_total", {"code": "rate_limited"}) == before + 1


async def test_a_rate_limited_request_has_no_effect_and_its_idempotency_key_remains_usable(
    make_client: ClientMaker,
) -> None:
    client = await make_client(rate_limit_rps=0.01, rate_limit_burst=1)
    admin = operator_of(client)
    tenant = await make_tenant(client, admin, "acme")
    assert (await tenant.api.get("/v1/workspace")).status == 200
    again = {"Idempotency-Key": "the-same"}
    data = form(b"text", filename="a.txt")
    assert (await tenant.api.call("POST", "/v1/documents", data=data, headers=again)).is_problem(429, "rate_limited")
    other = Api(client, await make_key(admin, tenant.id))
    sent = await other.call("POST", "/v1/documents", data=form(b"text", filename="a.txt"), headers=again)
    assert (sent.status, "Idempotent-Replayed" in sent.headers) == (202, False)


async def test_rate_limits_are_per_key_and_do_not_apply_to_the_admin_key(make_client: ClientMaker) -> None:
    client = await make_client(rate_limit_rps=0.01, rate_limit_burst=1)
    admin = operator_of(client)
    tenant = await make_tenant(client, admin, "acme")
    collection_id = (await tenant.api.get("/v1/collections")).json["data"][0]["id"]
    assert (await tenant.api.get("/v1/workspace")).status == 429
    uploads = Api(client, await make_key(admin, tenant.id))
    body = {"collection_id": collection_id, "max_bytes": 1000}
    token = (await uploads.post("/v1/upload-tokens", body)).json["token"]
    # A page that floods the API with a token does not affect the key that created it.
    companion = f"/companion/{token}/s3/params?filename=a.txt&type=text/plain"
    responses = [await Api(client, None).get(companion) for _ in range(2)]
    assert [response.status for response in responses] == [200, 429]
    assert (await Api(client, await make_key(admin, tenant.id)).get("/v1/workspace")).status == 200
    assert [(await admin.get("/v1/workspaces")).status for _ in range(3)] == [200] * 3


async def test_unauthenticated_responses_have_no_rate_limit_headers(make_client: ClientMaker) -> None:
    client = await make_client(rate_limit_rps=0.01, rate_limit_burst=1)
    stranger = Api(client, None)
    for path, status in (("/healthz", 200), ("/v1/workspace", 401)):
        for _ in range(3):
            response = await stranger.get(path)
            assert response.status == status
            assert not [name for name in response.headers if name.lower().startswith("ratelimit")]


async def test_a_rate_of_zero_disables_the_limit(make_client: ClientMaker) -> None:
    client = await make_client(rate_limit_rps=0, rate_limit_burst=1)
    tenant = await make_tenant(client, operator_of(client), "acme")
    assert [(await tenant.api.get("/v1/workspace")).status for _ in range(3)] == [200] * 3
    assert not client.app[RATES].is_on

"""A key that asks more often than it may is told when to come back; nobody else notices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.http.limits.client_rate import RATES
from ragsvc.telemetry.metrics import REGISTRY
from tests.http.conftest import Api, ApiResponse, make_key, make_tenant, operator_of
from tests.http.support.documents import form

if TYPE_CHECKING:
    from tests.http.conftest import ClientMaker

BURST = 3


def left(answer: ApiResponse) -> tuple[str, ...]:
    return tuple(answer.headers[f"RateLimit-{name}"] for name in ("Limit", "Remaining"))


async def test_a_key_over_its_rate_is_refused_until_it_has_a_request_left(make_client: ClientMaker) -> None:
    client = await make_client(rate_limit_rps=0.01, rate_limit_burst=BURST)
    tenant = await make_tenant(client, operator_of(client), "acme")
    before = REGISTRY.get_sample_value("ragsvc_requests_refused_total", {"code": "rate_limited"}) or 0
    responses = [await tenant.api.get("/v1/workspace") for _ in range(BURST)]
    assert [answer.status for answer in responses] == [200] * BURST
    assert [left(answer) for answer in responses] == [("3", "2"), ("3", "1"), ("3", "0")]
    refused = await tenant.api.get("/v1/workspace")
    assert refused.is_problem(429, "rate_limited")
    retry_after_s = int(refused.headers["Retry-After"])
    assert 0 < retry_after_s <= 100
    # The other two requests of the burst come back at 100 s each.
    assert int(refused.headers["RateLimit-Reset"]) == retry_after_s + 200
    assert left(refused) == ("3", "0")
    assert REGISTRY.get_sample_value("ragsvc_requests_refused_total", {"code": "rate_limited"}) == before + 1


async def test_a_refused_request_leaves_nothing_and_may_come_again_under_its_key(make_client: ClientMaker) -> None:
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


async def test_others_have_rates_of_their_own_and_the_operator_none(make_client: ClientMaker) -> None:
    client = await make_client(rate_limit_rps=0.01, rate_limit_burst=1)
    admin = operator_of(client)
    tenant = await make_tenant(client, admin, "acme")
    collection_id = (await tenant.api.get("/v1/collections")).json["data"][0]["id"]
    assert (await tenant.api.get("/v1/workspace")).status == 429
    uploads = Api(client, await make_key(admin, tenant.id))
    body = {"collection_id": collection_id, "max_bytes": 1000}
    token = (await uploads.post("/v1/upload-tokens", body)).json["token"]
    # A page that goes mad with a token does not shut out the server that made it.
    companion = f"/companion/{token}/s3/params?filename=a.txt&type=text/plain"
    responses = [await Api(client, None).get(companion) for _ in range(2)]
    assert [answer.status for answer in responses] == [200, 429]
    assert (await Api(client, await make_key(admin, tenant.id)).get("/v1/workspace")).status == 200
    assert [(await admin.get("/v1/workspaces")).status for _ in range(3)] == [200] * 3


async def test_what_counts_for_no_key_tells_no_rate(make_client: ClientMaker) -> None:
    client = await make_client(rate_limit_rps=0.01, rate_limit_burst=1)
    stranger = Api(client, None)
    for path, status in (("/healthz", 200), ("/v1/workspace", 401)):
        for _ in range(3):
            answer = await stranger.get(path)
            assert answer.status == status
            assert not [name for name in answer.headers if name.lower().startswith("ratelimit")]


async def test_a_rate_of_zero_is_none(make_client: ClientMaker) -> None:
    client = await make_client(rate_limit_rps=0, rate_limit_burst=1)
    tenant = await make_tenant(client, operator_of(client), "acme")
    assert [(await tenant.api.get("/v1/workspace")).status for _ in range(3)] == [200] * 3
    assert not client.app[RATES].is_on

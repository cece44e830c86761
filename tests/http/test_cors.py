"""CORS: by default no origin is allowed, configured origins are, and credentials are never allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.http.conftest import Api, make_tenant, operator_of

if TYPE_CHECKING:
    from tests.http.conftest import Client, ClientMaker, Tenant

PAGE = "https://app.example"
ALLOW = "Access-Control-Allow-Origin"


@pytest.fixture
async def sharing(make_client: ClientMaker) -> Client:
    """An application that allows two origins."""
    return await make_client(cors_allowed_origins=f"{PAGE}, http://localhost:5173")


def preflight(origin: str = PAGE, method: str = "PUT") -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type",
    }


async def test_by_default_no_origin_is_allowed(client: Client, tenant: Tenant) -> None:
    asked = await Api(client, None).call("OPTIONS", "/v1/workspace", headers=preflight())
    assert asked.status == 401
    response = await tenant.api.get("/v1/workspace", headers={"Origin": PAGE})
    assert response.status == 200
    for headers in (asked.headers, response.headers):
        assert not [name for name in headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("path", ["/v1/documents", "/v1/uploads/upl_1/parts/1", "/tus/x", "/companion/t/s3/multipart"])
async def test_a_preflight_of_an_allowed_origin_succeeds_without_a_key(sharing: Client, path: str) -> None:
    response = await Api(sharing, None).call("OPTIONS", path, headers=preflight())
    assert (response.status, response.raw, response.headers[ALLOW]) == (204, b"", PAGE)
    assert response.headers["Access-Control-Allow-Headers"] == "authorization,content-type"
    assert {"PUT", "PATCH", "DELETE", "HEAD"} <= set(response.headers["Access-Control-Allow-Methods"].split(", "))
    assert "Access-Control-Allow-Credentials" not in response.headers


async def test_an_allowed_origin_can_read_responses_and_errors(sharing: Client) -> None:
    api = (await make_tenant(sharing, operator_of(sharing), "acme")).api
    for caller, status in ((api, 200), (Api(sharing, None), 401)):
        response = await caller.get("/v1/workspace", headers={"Origin": PAGE})
        assert (response.status, response.headers[ALLOW]) == (status, PAGE)
        assert "Origin" in response.headers.getall("Vary")
        exposed = response.headers["Access-Control-Expose-Headers"].split(", ")
        assert {"ETag", "Location", "Upload-Offset", "Tus-Resumable", "X-Request-Id"} <= set(exposed)


async def test_other_origins_and_other_paths_get_no_cors_headers(sharing: Client) -> None:
    stranger = Api(sharing, None)
    for origin in ("https://evil.example", "https://app.example.evil", "null", "http://app.example"):
        asked = await stranger.call("OPTIONS", "/v1/documents", headers=preflight(origin))
        assert asked.status == 401
        assert ALLOW not in asked.headers
    assert ALLOW not in (await stranger.get("/healthz", headers={"Origin": PAGE})).headers
    assert ALLOW not in (await stranger.call("OPTIONS", "/v1x", headers=preflight())).headers


async def test_a_star_allows_every_origin(make_client: ClientMaker) -> None:
    open_client = await make_client(cors_allowed_origins="*")
    response = await Api(open_client, None).call("OPTIONS", "/v1/documents", headers=preflight("https://any.example"))
    assert (response.status, response.headers[ALLOW]) == (204, "*")


async def test_options_without_preflight_headers_reaches_its_route(sharing: Client) -> None:
    response = await Api(sharing, None).call("OPTIONS", "/v1/documents", headers={"Origin": PAGE})
    assert response.status == 401
    assert response.headers[ALLOW] == PAGE

"""Security headers, allowed hosts, and stored content that browsers must not render."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ragsvc.http.hardening import HEADERS
from tests.http.conftest import Api, ApiResponse
from tests.http.support.documents import form

if TYPE_CHECKING:
    from tests.http.conftest import ClientMaker, Tenant

EVIL = b"<!doctype html><script>alert(document.domain)</script>"


async def test_every_kind_of_response_has_the_security_headers(tenant: Tenant, stranger: Api) -> None:
    responses = [
        await tenant.api.get("/v1/documents"),
        await tenant.api.get("/v1/documents/doc_x"),
        await tenant.api.post("/v1/search", {}),
        await stranger.get("/v1/documents"),
        await stranger.get("/healthz"),
        await stranger.get("/nothing"),
        await stranger.get("/docs"),
        await stranger.get("/openapi.json"),
        await stranger.call("OPTIONS", "/tus"),
    ]
    assert [response.status for response in responses] == [200, 404, 422, 401, 200, 404, 200, 200, 204]
    for response in responses:
        assert HEADERS.keys() <= response.headers.keys()
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
        assert not {"Server", "X-Powered-By", "Set-Cookie", "Strict-Transport-Security"} & response.headers.keys()


async def test_an_https_public_url_enables_hsts(make_client: ClientMaker) -> None:
    client = await make_client(public_url="https://api.example")
    assert "max-age=" in (await Api(client, None).get("/healthz")).headers["Strict-Transport-Security"]


@pytest.mark.parametrize("filename", ["page.html", "image.svg", "script.js", "file.xml", "a.pdf"])
async def test_stored_content_is_sent_as_an_attachment(tenant: Tenant, filename: str) -> None:
    data = form(EVIL + filename.encode(), filename=filename)
    document: dict[str, Any] = (await tenant.api.call("POST", "/v1/documents", data=data)).json
    path = f"/v1/documents/{document['id']}/content"
    for headers in ({}, {"Range": "bytes=0-9"}, {"Accept": "text/html"}):
        response = await tenant.api.get(path, headers=headers)
        assert response.headers["Content-Disposition"].startswith("attachment; ")
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    # The presigned URL also returns it as an attachment.
    location = (await tenant.api.get(f"{path}?redirect=1")).headers["Location"]
    async with tenant.api.client.session.get(location) as served:
        assert served.headers["Content-Disposition"].startswith("attachment; ")


async def asked(api: Api, host: str, path: str = "/v1/workspace") -> ApiResponse:
    return await api.get(path, headers={"Host": host})


async def test_only_allowed_hosts_are_served(make_client: ClientMaker, tenant: Tenant) -> None:
    api = Api(await make_client(allowed_hosts="api.example, *.example.org, 127.0.0.1, ::1"), tenant.api.key)
    for host in ("api.example", "API.example:8443", "a.b.example.org", "127.0.0.1:1", "[::1]:80"):
        assert (await asked(api, host)).status == 200, host
    for host in ("evil.example", "api.example.evil", "example.org", "xexample.org", "[", "api.example@evil", "a b"):
        response = await asked(api, host)
        assert response.is_problem(421, "unknown_host"), host
    # Health checks are served for any host, since probes use the address of the process.
    assert (await asked(api, "10.0.0.7:8080", "/healthz")).status == 200


async def test_by_default_any_host_is_served(tenant: Tenant) -> None:
    assert (await asked(tenant.api, "whatever.example")).status == 200


async def test_a_host_with_an_invalid_port_is_refused_before_anything_is_done(
    make_client: ClientMaker, tenant: Tenant
) -> None:
    limited = Api(await make_client(allowed_hosts="api.example"), tenant.api.key)
    for api in (limited, tenant.api):
        for host in ("api.example:99999", "api.example:x", "api.example:-1"):
            response = await api.call("POST", "/v1/upload-tokens", headers={"Host": host})
            assert response.status in {400, 421}, host
            assert response.is_problem(response.status, response.json["code"])

"""Unknown query parameters are refused by every route under /v1, and ignored by all others."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.http.conftest import Api, Tenant


async def test_every_operation_under_v1_refuses_unknown_parameters(tenant: Tenant, admin: Api, stranger: Api) -> None:
    described = (await stranger.get("/openapi.json")).json["paths"]
    calls = [(method, path) for path, item in described.items() if path.startswith("/v1/") for method in item]
    assert len(calls) > 50
    for method, path in calls:
        api = admin if path.startswith(("/v1/admin", "/v1/workspaces")) else tenant.api
        # Routes with parameters look up the resource before they parse the query.
        takes_some = any(one["in"] == "query" for one in described[path][method].get("parameters", []))
        filled = re.sub(r"\{[^}]+\}", "nothing", path)
        response = await api.call(method.upper(), f"{filled}?surprise=1")
        if takes_some and response.status == 404:
            continue
        assert response.is_problem(422, "invalid_request"), (method, path, response.raw)
        assert [error["field"] for error in response.json["errors"]] == ["surprise"]


async def test_a_request_refused_for_a_parameter_has_no_effect(tenant: Tenant) -> None:
    document = await tenant.upload()
    assert (await tenant.api.post(f"/v1/documents/{document['id']}/reingest?x=1", {})).status == 422
    assert (await tenant.api.call("DELETE", f"/v1/documents/{document['id']}?purge=false")).status == 422
    assert (await tenant.api.get(f"/v1/documents/{document['id']}")).json == document


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"])
async def test_public_endpoints_ignore_unknown_parameters(stranger: Api, path: str) -> None:
    assert (await stranger.get(f"{path}?_=1700000000")).status == 200


async def test_parameters_are_not_checked_before_authentication(stranger: Api) -> None:
    assert (await stranger.get("/v1/workspace?surprise=1")).is_problem(401, "unauthorized")

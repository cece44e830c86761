"""A parameter that a call does not know is refused by every route of our own contract, and by none of others'."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.http.conftest import Api, Tenant


async def test_every_call_under_v1_refuses_a_parameter_that_it_does_not_know(
    tenant: Tenant, admin: Api, stranger: Api
) -> None:
    described = (await stranger.get("/openapi.json")).json["paths"]
    calls = [(method, path) for path, item in described.items() if path.startswith("/v1/") for method in item]
    assert len(calls) > 50
    for method, path in calls:
        api = admin if path.startswith(("/v1/admin", "/v1/workspaces")) else tenant.api
        # One that takes parameters finds its document first.
        takes_some = any(one["in"] == "query" for one in described[path][method].get("parameters", []))
        filled = re.sub(r"\{[^}]+\}", "nothing", path)
        answer = await api.call(method.upper(), f"{filled}?surprise=1")
        if takes_some and answer.status == 404:
            continue
        assert answer.is_problem(422, "invalid_request"), (method, path, answer.raw)
        assert [error["field"] for error in answer.json["errors"]] == ["surprise"]


async def test_a_call_that_is_refused_for_a_parameter_does_nothing(tenant: Tenant) -> None:
    document = await tenant.upload()
    assert (await tenant.api.post(f"/v1/documents/{document['id']}/reingest?x=1", {})).status == 422
    assert (await tenant.api.call("DELETE", f"/v1/documents/{document['id']}?purge=false")).status == 422
    assert (await tenant.api.get(f"/v1/documents/{document['id']}")).json == document


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"])
async def test_what_others_ask_for_is_answered_whatever_they_add(stranger: Api, path: str) -> None:
    assert (await stranger.get(f"{path}?_=1700000000")).status == 200


async def test_a_stranger_does_not_learn_what_a_call_takes(stranger: Api) -> None:
    assert (await stranger.get("/v1/workspace?surprise=1")).is_problem(401, "unauthorized")

"""Every route requires a key, and a key gives access only to what its scopes allow."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from ragsvc.domain.ids import format_id, new_id
from ragsvc.domain.workspaces import Scope
from ragsvc.http.auth import Access
from ragsvc.http.contract.openapi.parameters import ID_PARAMETERS
from ragsvc.http.contract.operations import operation_of
from tests.http.conftest import Api, make_key
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ragsvc.http.contract.operations import Operation
    from ragsvc.resources import Resources
    from tests.http.conftest import Client, Tenant


def guarded_routes(client: Client) -> Iterator[tuple[str, str, Operation]]:
    """Yield the method, a path with unknown ids, and the contract of every route that is not public."""
    for route in client.app.router.routes():
        contract = operation_of(route.handler)
        assert contract is not None
        assert route.resource is not None
        if Access.PUBLIC in contract.access or route.method == "HEAD":
            continue
        path = route.resource.canonical.replace("{queue}", "ingestion").replace("{entry_id}", str(uuid4()))
        for name, prefix in ID_PARAMETERS.items():
            path = path.replace("{" + name + "}", format_id(prefix, uuid4()))
        yield route.method, path.replace("{part_number}", "1"), contract


async def test_every_route_requires_a_key(client: Client, stranger: Api) -> None:
    responses = {
        (method, path): await stranger.call(method, path) for method, path, _contract in guarded_routes(client)
    }
    assert len(responses) > 25
    assert [route for route, response in responses.items() if not response.is_problem(401, "unauthorized")] == []


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Bearer rag_unknown", "rag_unknown", "Bearer \x80é", "Bearer a b"],
)
async def test_a_bad_key_is_refused(client: Client, header: str) -> None:
    response = await Api(client, None).get("/v1/documents", headers={"Authorization": header})
    assert response.is_problem(401, "unauthorized")
    assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_the_authentication_scheme_is_case_insensitive(tenant: Tenant) -> None:
    stranger = Api(tenant.api.client, None)
    assert (await stranger.get("/v1/workspace", headers={"Authorization": f"bearer {tenant.api.key}"})).status == 200


async def test_routes_for_upload_tokens_accept_no_key(client: Client, admin: Api, tenant: Tenant) -> None:
    tried = [path for _method, path, contract in guarded_routes(client) if Access.UPLOAD_TOKEN in contract.access]
    assert len(tried) >= 7
    for method, path, contract in guarded_routes(client):
        if Access.UPLOAD_TOKEN in contract.access:
            for api in (admin, tenant.api):
                with_key = path.replace("{upload_token}", str(api.key))
                assert (await api.call(method, with_key)).is_problem(401, "unauthorized"), path


async def test_unknown_routes_also_require_a_key(stranger: Api) -> None:
    assert (await stranger.get("/v1/no/such/route")).is_problem(401, "unauthorized")
    assert (await stranger.call("PUT", "/v1/documents")).is_problem(401, "unauthorized")
    assert (await stranger.call("PUT", "/tus/upl_1")).is_problem(401, "unauthorized")
    assert (await stranger.call("OPTIONS", "/tus/upl_1")).is_problem(401, "unauthorized")


async def test_a_workspace_key_has_no_admin_access(client: Client, tenant: Tenant) -> None:
    for method, path, contract in guarded_routes(client):
        if contract.access == (Access.ADMIN,):
            with_id = path.replace("{id}", format_id("doc", new_id()))
            assert (await tenant.api.call(method, with_id)).is_problem(403, "forbidden"), path


async def test_the_admin_key_has_no_access_to_workspaces(client: Client, admin: Api) -> None:
    for method, path, contract in guarded_routes(client):
        if not {Access.ADMIN, Access.UPLOAD_TOKEN} & set(contract.access):
            assert (await admin.call(method, path)).is_problem(403, "forbidden"), path


async def test_a_key_has_access_only_by_its_scopes(client: Client, admin: Api, tenant: Tenant) -> None:
    keys = {scope: Api(client, await make_key(admin, tenant.id, scopes=[scope])) for scope in Scope}
    for method, path, contract in guarded_routes(client):
        if not set(Scope) & set(contract.access):
            continue
        for scope, api in keys.items():
            refused = (await api.call(method, path)).status == 403
            assert refused is (scope not in contract.access), (method, path, scope)


async def test_a_new_key_has_all_scopes(admin: Api, tenant: Tenant) -> None:
    keys = (await admin.get(f"/v1/workspaces/{tenant.id}/keys")).json["data"]
    assert keys[0]["scopes"] == ["read", "write", "chat", "upload"]


async def test_a_revoked_key_is_refused_at_once(client: Client, admin: Api, tenant: Tenant) -> None:
    created = (await admin.post(f"/v1/workspaces/{tenant.id}/keys", {"name": "short-lived"})).json
    api = Api(client, created["key"])
    assert (await api.get("/v1/workspace")).status == 200
    assert (await admin.delete(f"/v1/workspaces/{tenant.id}/keys/{created['id']}")).status == 204
    assert (await api.get("/v1/workspace")).is_problem(401, "unauthorized")


async def test_a_key_is_refused_after_its_expiry(client: Client, admin: Api, tenant: Tenant) -> None:
    expires_at = datetime.now(UTC) + timedelta(seconds=3)
    api = Api(client, await make_key(admin, tenant.id, expires_at=expires_at.isoformat()))
    assert (await api.get("/v1/workspace")).status == 200

    async def refused() -> bool:
        return (await api.get("/v1/workspace")).is_problem(401, "unauthorized")

    await until(refused, timeout_s=30, what="the expiry")
    assert datetime.now(UTC) >= expires_at


async def test_the_keys_of_a_deleted_workspace_are_refused_at_once(admin: Api, tenant: Tenant) -> None:
    assert (await admin.delete(f"/v1/workspaces/{tenant.id}")).status == 202
    assert (await tenant.api.get("/v1/workspace")).is_problem(401, "unauthorized")


async def test_only_the_hash_of_a_key_is_stored(tenant: Tenant, resources: Resources) -> None:
    assert tenant.api.key is not None
    async with resources.pool.acquire() as conn:
        row = await conn.fetchrow("SELECT * FROM api_keys WHERE workspace_id = $1", tenant.uuid)
    assert row is not None
    assert row["key_hash"] == hashlib.sha256(tenant.api.key.encode()).digest()
    assert tenant.api.key not in repr(row)
    assert row["key_prefix"] == tenant.api.key[:12]

"""Creation of uploads over tus: capabilities, metadata, access and refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest

from tests.http.conftest import Api, make_key
from tests.http.tus.support import (
    BODY,
    SMALL,
    TUS,
    assert_stored,
    checksum,
    create,
    metadata,
    patch,
    session_of,
)

if TYPE_CHECKING:
    from tests.http.conftest import ApiResponse, Client, Tenant


async def test_the_capabilities_are_public(stranger: Api) -> None:
    response = await stranger.call("OPTIONS", "/tus")
    assert response.status == 204
    assert response.headers["Tus-Resumable"] == response.headers["Tus-Version"] == "1.0.0"
    assert response.headers["Tus-Extension"] == "creation,creation-with-upload,termination,checksum,expiration"
    assert response.headers["Tus-Checksum-Algorithm"] == "sha1,sha256,md5"
    assert int(response.headers["Tus-Max-Size"]) == 5 * 1024**3


async def test_a_creation_can_contain_the_first_bytes(tenant: Tenant) -> None:
    headers = {**BODY, "Upload-Length": "1000", **metadata(filename="a.txt")}
    whole = await tenant.api.call("POST", "/tus", data=SMALL, headers=headers)
    assert (whole.status, whole.headers["Upload-Offset"]) == (201, "1000")
    await assert_stored(tenant.api, whole, SMALL)
    begun = await tenant.api.call("POST", "/tus", data=SMALL[:10], headers=headers)
    assert (begun.status, begun.headers["Upload-Offset"]) == (201, "10")
    assert "Upload-Expires" in begun.headers
    rest = await patch(tenant.api, begun.headers["Location"], 10, SMALL[10:])
    await assert_stored(tenant.api, rest, SMALL)


@pytest.mark.parametrize(
    ("data", "headers", "status", "code"),
    [
        (SMALL + b"x", {}, 413, "too_large"),
        (SMALL, checksum("sha1", b"other"), 460, "upload_checksum_mismatch"),
        (SMALL, {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
    ],
    ids=["too long", "wrong checksum", "wrong type"],
)
async def test_a_creation_with_refused_bytes_leaves_no_upload(
    tenant: Tenant, data: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    response = await tenant.api.call("POST", "/tus", data=data, headers={**BODY, "Upload-Length": "1000", **headers})
    assert response.is_problem(status, code), response.raw
    assert (await tenant.api.get("/v1/uploads?status=pending")).json["data"] == []


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 400, "bad_request"),
        ({"Upload-Length": "-1"}, 400, "bad_request"),
        ({"Upload-Length": "1.5"}, 400, "bad_request"),
        ({"Upload-Length": "9" * 40}, 400, "bad_request"),
        ({"Upload-Defer-Length": "1"}, 400, "bad_request"),
        ({"Upload-Length": "1", "Upload-Concat": "partial"}, 400, "bad_request"),
        ({"Upload-Length": "1", "X-HTTP-Method-Override": "PATCH"}, 405, "method_not_allowed"),
        ({"Upload-Length": "0"}, 422, "empty_file"),
        ({"Upload-Length": str(5 * 1024**3 + 1)}, 413, "too_large"),
        ({"Upload-Length": "1", "Upload-Metadata": "filename ?"}, 422, "invalid_request"),
        ({"Upload-Length": "1", "Upload-Metadata": "a YQ==,a YQ=="}, 422, "invalid_request"),
        ({"Upload-Length": "1", "Upload-Metadata": "b\u00e4 YQ=="}, 422, "invalid_request"),
        ({"Upload-Length": "1", **metadata(filename="a\0b")}, 422, "invalid_request"),
        ({"Upload-Length": "1", **metadata(attributes="{")}, 422, "invalid_request"),
        ({"Upload-Length": "1", **metadata(attributes='{"a": []}')}, 422, "invalid_request"),
        ({"Upload-Length": "1", **metadata(attributes='{"a": 98765432109876543210987}')}, 422, "invalid_request"),
        ({"Upload-Length": "1", **metadata(collection_id="mine")}, 422, "invalid_request"),
        ({"Upload-Length": "1", **metadata(collection_id="col_" + "0" * 32)}, 404, "not_found"),
        ({"Upload-Length": "1", "Tus-Resumable": "0.2.2"}, 412, "unsupported_tus_version"),
    ],
)
async def test_an_invalid_creation_opens_no_upload(
    tenant: Tenant, headers: dict[str, str], status: int, code: str
) -> None:
    response = await tenant.api.call("POST", "/tus", headers={**TUS, **headers})
    assert response.is_problem(status, code), response.raw
    assert response.headers["Tus-Resumable"] == "1.0.0"
    assert (response.headers.get("Tus-Version") == "1.0.0") == (status == 412)
    assert (await tenant.api.get("/v1/uploads")).json["data"] == []


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE", "POST"])
async def test_an_upload_of_another_workspace_is_not_found(tenant: Tenant, other: Tenant, method: str) -> None:
    path = await create(tenant.api)
    native = (await other.api.post("/v1/uploads", {"filename": "a.txt", "size_bytes": 1000})).json["id"]
    override = {"X-HTTP-Method-Override": "PATCH"} if method == "POST" else {}
    for unknown in (path, "/tus/upl_" + "0" * 32, "/tus/upl_1", f"/tus/{native}"):
        response = await other.api.call(method, unknown, headers={**BODY, "Upload-Offset": "0", **override}, data=b"")
        assert response.status == 404
        assert method == "HEAD" or response.is_problem(404, "not_found")


async def test_a_key_with_the_upload_scope_is_required(
    tenant: Tenant, stranger: Api, admin: Api, client: Client
) -> None:
    length = {**TUS, "Upload-Length": "1000"}
    assert (await stranger.call("POST", "/tus", headers=length)).is_problem(401, "unauthorized")
    assert (await stranger.call("PATCH", "/tus/upl_1", headers=BODY)).is_problem(401, "unauthorized")
    reader = Api(client, await make_key(admin, tenant.id, scopes=["read"]))
    assert (await reader.call("POST", "/tus", headers=length)).is_problem(403, "forbidden")
    uploader = Api(client, await make_key(admin, tenant.id, scopes=["upload"]))
    path = await create(uploader)
    assert (await patch(uploader, path, 0, SMALL)).status == 204


async def test_the_method_can_be_overridden(tenant: Tenant) -> None:
    path = await create(tenant.api)

    async def post(method: str, **headers: str) -> ApiResponse:
        every = {**BODY, "X-HTTP-Method-Override": method, **headers}
        return await tenant.api.call("POST", path, data=SMALL[:10] if method == "PATCH" else b"", headers=every)

    assert (await post("PATCH", **{"Upload-Offset": "0"})).headers["Upload-Offset"] == "10"
    assert (await post("HEAD")).headers["Upload-Offset"] == "10"
    assert (await post("OPTIONS")).headers["Tus-Version"] == "1.0.0"
    refused = await post("GET")
    assert refused.is_problem(405, "method_not_allowed")
    assert refused.headers["Allow"]
    # The header takes precedence over the request's method.
    assert (await tenant.api.call("HEAD", path, headers={**TUS, "X-HTTP-Method-Override": "DELETE"})).status == 204
    assert (await session_of(tenant.api, path))["status"] == "aborted"


async def test_problems_have_the_common_shape(tenant: Tenant) -> None:
    response = await patch(tenant.api, "/tus/upl_" + "0" * 32, 0, b"x")
    assert orjson.loads(response.raw)["code"] == "not_found"
    assert response.is_problem(404, "not_found")

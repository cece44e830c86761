"""The streams, downloads and uploads of a revoked key, or of a closed workspace, end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from ragsvc.db.connections import pool
from ragsvc.domain.documents import Stage
from ragsvc.domain.workspaces import Scope
from ragsvc.errors.requests import Unauthorized
from ragsvc.http.contract.ids import parse_id
from ragsvc.http.key_checks import KEY_CHECKS
from ragsvc.shares import Holder, holder_now
from ragsvc.uploads.completion import complete_session
from tests.http.conftest import Api
from tests.http.support.documents import form, show_stage
from tests.http.support.uploads import make_token, open_upload, put
from tests.http.tus import support as tus
from tests.support.remote import SlowFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.resources import Resources
    from tests.http.conftest import ApiResponse, Client, Tenant

pytestmark = pytest.mark.usefixtures("no_cache")
DEADLINE_S = 10.0


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are looked up every time."""
    monkeypatch.setattr("ragsvc.http.key_checks.MAX_AGE_S", 0.0)


@dataclass(frozen=True, slots=True)
class Lost:
    """A key of the tenant that the test revokes."""

    api: Api
    path: str
    admin: Api

    async def revoke(self) -> None:
        assert (await self.admin.delete(self.path)).status == 204


@pytest.fixture
async def lost(client: Client, admin: Api, tenant: Tenant) -> Lost:
    path = f"/v1/workspaces/{tenant.id}/keys"
    created = (await admin.post(path, {"name": "lost"})).json
    return Lost(Api(client, created["key"]), f"{path}/{created['id']}", admin)


async def read_to_end(content: Any) -> bytes:
    async with asyncio.timeout(DEADLINE_S):
        return bytes(await content.read())


@pytest.mark.parametrize("is_changed", [True, False])
async def test_the_stream_of_a_revoked_key_ends(
    client: Client, tenant: Tenant, lost: Lost, resources: Resources, *, is_changed: bool
) -> None:
    document = await tenant.upload()
    path = f"/v1/documents/{document['id']}/events"
    async with client.get(path, headers=lost.api.headers) as stream:
        await asyncio.wait_for(stream.content.readuntil(b"\n\n"), DEADLINE_S)
        await lost.revoke()
        if is_changed:
            await show_stage(resources, tenant.uuid, parse_id("doc", document["id"]), Stage.PARSING)
        # It ends cleanly, without another event; an idle stream ends at the next ping.
        assert b"event:" not in await read_to_end(stream.content)


async def test_the_stream_of_a_closed_workspace_ends(client: Client, admin: Api, tenant: Tenant) -> None:
    document = await tenant.upload()
    async with client.get(f"/v1/documents/{document['id']}/events", headers=tenant.api.headers) as stream:
        await asyncio.wait_for(stream.content.readuntil(b"\n\n"), DEADLINE_S)
        assert (await admin.delete(f"/v1/workspaces/{tenant.id}")).status == 202
        assert b"ready" not in await read_to_end(stream.content)


async def assert_nothing_was_accepted(tenant: Tenant, before: int = 0) -> None:
    assert len((await tenant.api.get("/v1/documents")).json["data"]) == before


@pytest.mark.parametrize("kind", ["new", "replacement", "token"])
async def test_a_file_of_a_key_that_is_revoked_meanwhile_is_not_accepted(tenant: Tenant, lost: Lost, kind: str) -> None:
    document = await tenant.upload()
    method, path, api = "POST", "/v1/documents", lost.api
    if kind == "replacement":
        method, path = "PUT", f"/v1/documents/{document['id']}/content"
    if kind == "token":
        token = (await make_token(lost.api))["token"]
        path, api = f"/companion/{token}/s3/form", Api(lost.api.client, None)
    slow = SlowFile()
    body = slow.form(key="k", filename="a.txt") if kind == "token" else slow.form()
    sending = asyncio.create_task(api.call(method, path, data=body))
    await asyncio.wait_for(slow.begun.wait(), DEADLINE_S)
    await lost.revoke()
    slow.may_end.set()
    assert (await sending).is_problem(401, "unauthorized")
    await assert_nothing_was_accepted(tenant, before=1)
    shown = (await tenant.api.get(f"/v1/documents/{document['id']}")).json
    assert shown["file_id"] == document["file_id"]


async def test_a_part_of_a_key_that_is_revoked_meanwhile_is_not_stored(tenant: Tenant, lost: Lost) -> None:
    upload = await open_upload(lost.api, size_bytes=20)

    async def body() -> AsyncIterator[bytes]:
        yield b"0123456789"
        await lost.revoke()
        yield b"0123456789"

    response: ApiResponse = await put(lost.api, upload, 1, body())
    assert response.is_problem(401, "unauthorized")
    assert (await tenant.api.get(f"/v1/uploads/{upload['id']}")).json["received_bytes"] == 0


async def test_a_tus_upload_of_a_key_that_is_revoked_meanwhile_is_not_completed(tenant: Tenant, lost: Lost) -> None:
    path = await tus.create(lost.api, 20)
    async with tus.sending(lost.api, path, 0, 20) as (reader, writer):
        writer.write(b"0123456789")
        await writer.drain()
        await lost.revoke()
        writer.write(b"0123456789")
        assert b" 401 " in await asyncio.wait_for(reader.readline(), DEADLINE_S)
    await assert_nothing_was_accepted(tenant)


async def test_a_key_that_only_uploads_cannot_replace_a_file(client: Client, admin: Api, tenant: Tenant) -> None:
    document = await tenant.upload()
    created = (await admin.post(f"/v1/workspaces/{tenant.id}/keys", {"name": "page", "scopes": [Scope.UPLOAD]})).json
    api = Api(client, created["key"])
    path = f"/v1/documents/{document['id']}"
    assert (await api.call("PUT", f"{path}/content", data=form(b"other"))).is_problem(403, "forbidden")
    assert (await api.call("POST", "/v1/documents", data=form(b"new"))).status == 202
    assert (await tenant.api.get(f"{path}/content")).raw == b"Kettles boil water."


async def test_the_last_known_answer_counts_while_postgres_is_away(
    client: Client, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = client.app[KEY_CHECKS]

    def fail(*_args: object) -> None:
        raise OSError("away")

    monkeypatch.setattr(pool.Pool, "scoped_to", fail)
    before = holder_now.get()
    try:
        holder_now.set(Holder(tenant.uuid, tenant.uuid))
        await checks.require_valid()
    finally:
        holder_now.set(before)


async def test_a_session_is_not_completed_for_a_key_that_is_revoked_meanwhile(
    tenant: Tenant, lost: Lost, resources: Resources
) -> None:
    upload = await open_upload(lost.api, size_bytes=10)
    assert (await put(lost.api, upload, 1, b"0123456789")).status == 200
    before = holder_now.get()
    try:
        # The key is revoked after the request has been authenticated.
        holder_now.set(Holder(tenant.uuid, parse_id("key", lost.path.rpartition("/")[2])))
        await lost.revoke()
        with pytest.raises(Unauthorized):
            await complete_session(resources, tenant.uuid, parse_id("upl", upload["id"]))
    finally:
        holder_now.set(before)
    await assert_nothing_was_accepted(tenant)
    # Another key of the workspace can complete it.
    assert (await tenant.api.post(f"/v1/uploads/{upload['id']}/complete")).status == 200

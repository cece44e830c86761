"""A request that is retried after a failure or a lost response takes effect only once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import pytest

from ragsvc import uploads
from tests.http.idempotency.support import KEY, count
from tests.http.support.documents import form
from tests.http.support.proxy import ResponseDroppingProxy
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.resources import Resources
    from tests.http.conftest import Api, ApiResponse, Client, Tenant

TRIES = 200


async def test_a_failed_request_can_be_retried_at_once(
    tenant: Tenant, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:

        async def refuse(*_arguments: object, **_options: object) -> None:
            raise ConnectionRefusedError("the store is unavailable")

        broken.setattr(resources.storage, "create_multipart", refuse, raising=False)
        failed = await tenant.api.post("/v1/uploads", {"filename": "a.txt", "size_bytes": 9}, headers=KEY)
        assert failed.status == 503
    response = await tenant.api.post("/v1/uploads", {"filename": "a.txt", "size_bytes": 9}, headers=KEY)
    assert response.status == 201
    assert response.json["status"] == "pending"


async def test_a_form_can_be_retried_after_a_disconnect(tenant: Tenant, resources: Resources) -> None:
    async def half_a_file() -> AsyncIterator[bytes]:
        yield b"Kettles "
        await until(lambda: count(resources, "upload_sessions"), what="the first half")
        raise ConnectionError("the line is cut")

    data = aiohttp.FormData()
    data.add_field("file", half_a_file(), filename="kettles.txt")
    with pytest.raises(aiohttp.ClientError):
        await tenant.api.call("POST", "/v1/documents", data=data, headers=KEY)
    await _send_until_accepted(tenant, b"Kettles boil water.")


@pytest.mark.parametrize("broken", ["_open_upload", "register_upload"])
async def test_a_failed_form_can_be_retried(tenant: Tenant, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    async def refuse(*_arguments: object, **_options: object) -> None:
        raise ConnectionRefusedError("Postgres is unavailable")

    sent = [form(b"Kettles boil water."), form(b"Kettles boil tea.")]
    with monkeypatch.context() as patch:
        patch.setattr(uploads.documents, broken, refuse)
        assert (await tenant.api.call("POST", "/v1/documents", data=sent[0], headers=KEY)).status == 503
    if broken == "register_upload":
        # The hash of the file has been stored by then.
        other = await tenant.api.call("POST", "/v1/documents", data=sent[1], headers=KEY)
        assert other.is_problem(422, "idempotency_mismatch")
    await _send_until_accepted(tenant, b"Kettles boil water.")


async def _send_until_accepted(tenant: Tenant, content: bytes) -> None:
    """Retry a form with the key like an SDK, and assert that all attempts create one document."""

    async def send() -> ApiResponse | None:
        response = await tenant.api.call("POST", "/v1/documents", data=form(content), headers=KEY)
        return None if response.status == 409 else response

    first = await until(send, what="a response")
    again = await until(send, what="the same response")
    assert (first.status, again.status) == (202, 202)
    assert first.json == again.json
    listed = (await tenant.api.get("/v1/documents")).json["data"]
    assert [document["id"] for document in listed] == [first.json["id"]]
    assert (await tenant.api.get("/v1/workspace")).json["usage"]["storage_bytes"] == len(content)


@dataclass(frozen=True, slots=True)
class RetryingClient:
    """A client that retries after every connection error, like an SDK."""

    api: Api
    proxy: ResponseDroppingProxy

    async def post(self, path: str, **options: Any) -> Any:
        """Send until a response arrives, and return it parsed; `form_of` builds the form for each attempt."""
        form_of = options.pop("form_of", None)
        url = f"http://{self.proxy.host}:{self.proxy.port}{path}"
        async with aiohttp.ClientSession(headers={**self.api.headers, **KEY}) as session:
            for _try in range(TRIES):
                try:
                    sent = {"data": form_of()} if form_of else options
                    async with session.post(url, **sent) as response:
                        raw = await response.read()
                        assert response.status < 300 or response.status == 409, raw
                        if response.status != 409:
                            return orjson.loads(raw)
                        # The server has not yet detected the broken connection.
                        await asyncio.sleep(0.05)
                except aiohttp.ClientError:
                    continue
        raise AssertionError("no response arrived")


@pytest.fixture
async def retrying_client(tenant: Tenant, client: Client) -> AsyncIterator[RetryingClient]:
    """A client whose first two attempts lose their responses, each after the service has committed."""
    assert client.port is not None
    async with ResponseDroppingProxy(client.host, client.port, drops=2) as proxy:
        yield RetryingClient(tenant.api, proxy)
        assert proxy.left == 0


async def test_retries_after_a_lost_response_create_one_document(
    retrying_client: RetryingClient, tenant: Tenant
) -> None:
    document = await retrying_client.post("/v1/documents", form_of=lambda: form(b"Kettles boil water."))
    listed = (await tenant.api.get("/v1/documents")).json["data"]
    assert [found["id"] for found in listed] == [document["id"]]
    assert len((await tenant.api.get("/v1/files")).json["data"]) == 1


async def test_retries_after_a_lost_response_create_one_upload(retrying_client: RetryingClient, tenant: Tenant) -> None:
    upload = await retrying_client.post("/v1/uploads", json={"filename": "a.txt", "size_bytes": 9})
    listed = (await tenant.api.get("/v1/uploads")).json["data"]
    assert [found["id"] for found in listed] == [upload["id"]]


async def test_retries_after_a_lost_response_create_one_run(retrying_client: RetryingClient, tenant: Tenant) -> None:
    session = (await tenant.api.post("/v1/chat/sessions", {})).json["id"]
    path = f"/v1/chat/sessions/{session}/messages"
    response = await retrying_client.post(path, json={"content": "What boils water?", "stream": False})
    runs = (await tenant.api.get(f"/v1/chat/runs?session_id={session}")).json["data"]
    assert [run["id"] for run in runs] == [response["run_id"]]
    assert len((await tenant.api.get(path)).json["data"]) == 2

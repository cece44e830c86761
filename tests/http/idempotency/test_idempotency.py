"""A request repeated with its Idempotency-Key gets the same response and has no further effect."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from ragsvc.db import idempotency_keys
from ragsvc.http.contract.ids import parse_id
from tests.http.conftest import Api, make_key
from tests.http.idempotency.support import KEY, REPLAYED, count, forget_response
from tests.http.support.documents import form
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.resources import Resources
    from tests.http.conftest import ApiResponse, Tenant


@dataclass(frozen=True, slots=True)
class Creation:
    """A POST that creates a resource, and the table whose rows are counted."""

    path: str
    count: str
    body: dict[str, Any] = field(default_factory=dict)
    by_operator: bool = False
    identity: str = "id"


CREATIONS = {
    "a workspace": Creation("/v1/workspaces", "workspaces", {"name": "repeated"}, by_operator=True),
    "a key": Creation("/v1/workspaces/{workspace}/keys", "api_keys", {"name": "repeated"}, by_operator=True),
    "a collection": Creation("/v1/collections", "collections", {"name": "repeated"}),
    "an upload": Creation("/v1/uploads", "upload_sessions", {"filename": "a.txt", "size_bytes": 9}),
    "an upload token": Creation("/v1/upload-tokens", "upload_tokens", identity="token"),
    "a conversation": Creation("/v1/chat/sessions", "chat_sessions", {"title": "repeated"}),
}


@pytest.fixture(params=CREATIONS)
def creation(request: pytest.FixtureRequest, tenant: Tenant) -> Creation:
    """Each POST that creates a resource from a JSON body."""
    creation = CREATIONS[request.param]
    return Creation(
        creation.path.format(workspace=tenant.id),
        creation.count,
        creation.body,
        creation.by_operator,
        creation.identity,
    )


async def test_a_repeated_request_creates_nothing_new(
    creation: Creation, tenant: Tenant, admin: Api, resources: Resources
) -> None:
    api = admin if creation.by_operator else tenant.api
    first = await api.post(creation.path, creation.body, headers=KEY)
    made = await count(resources, creation.count)
    again = await api.post(creation.path, creation.body, headers=KEY)
    assert first.status == again.status == 201
    assert first.json == again.json
    assert REPLAYED not in first.headers
    assert again.headers[REPLAYED] == "true"
    assert again.headers["Content-Type"] == "application/json"
    assert await count(resources, creation.count) == made


async def test_a_resource_created_by_a_dead_process_is_found_again(
    creation: Creation, tenant: Tenant, admin: Api, resources: Resources
) -> None:
    api = admin if creation.by_operator else tenant.api
    first = await api.post(creation.path, creation.body, headers=KEY)
    made = await count(resources, creation.count)
    await forget_response(resources)
    again = await api.post(creation.path, creation.body, headers=KEY)
    assert again.status == 201
    assert first.json[creation.identity] == again.json[creation.identity]
    assert await count(resources, creation.count) == made
    third = await api.post(creation.path, creation.body, headers=KEY)
    assert third.json == again.json
    assert third.headers[REPLAYED] == "true"


async def test_secrets_in_responses_are_not_stored(tenant: Tenant, admin: Api, resources: Resources) -> None:
    key = (await admin.post(f"/v1/workspaces/{tenant.id}/keys", {"name": "a key"}, headers=KEY)).json["key"]
    token = (await tenant.api.post("/v1/upload-tokens", {}, headers=KEY)).json["token"]
    async with resources.pool.acquire() as conn:
        rows = str(await conn.fetch("SELECT * FROM idempotency_keys"))
    assert "the-first-try" in rows
    assert key[10:] not in rows
    assert token[10:] not in rows


async def test_a_repeated_document_upload_creates_one_document(tenant: Tenant, resources: Resources) -> None:
    sent = [form(b"Kettles boil water.", attributes='{"team": "ops"}') for _ in range(3)]
    first = await tenant.api.call("POST", "/v1/documents", data=sent[0], headers=KEY)
    again = await tenant.api.call("POST", "/v1/documents", data=sent[1], headers=KEY)
    assert first.status == again.status == 202
    assert first.json == again.json
    assert again.headers[REPLAYED] == "true"
    await forget_response(resources)
    found = await tenant.api.call("POST", "/v1/documents", data=sent[2], headers=KEY)
    assert found.status == 202
    assert found.json["id"] == first.json["id"]
    listed = (await tenant.api.get("/v1/documents")).json["data"]
    assert [document["id"] for document in listed] == [first.json["id"]]
    assert (await tenant.api.get("/v1/workspace")).json["usage"]["storage_bytes"] == 19


@pytest.mark.parametrize("is_stored", [True, False])
@pytest.mark.parametrize(
    ("content", "attributes"), [(b"Kettles boil tea.", '{"team": "ops"}'), (b"Kettles boil water.", '{"team": "hr"}')]
)
async def test_another_file_or_field_with_the_same_key_is_refused(
    tenant: Tenant, resources: Resources, *, is_stored: bool, content: bytes, attributes: str
) -> None:
    data = form(b"Kettles boil water.", attributes='{"team": "ops"}')
    first = await tenant.api.call("POST", "/v1/documents", data=data, headers=KEY)
    if not is_stored:
        await forget_response(resources)
    other = await tenant.api.call("POST", "/v1/documents", data=form(content, attributes=attributes), headers=KEY)
    assert other.is_problem(422, "idempotency_mismatch")
    listed = (await tenant.api.get("/v1/documents")).json["data"]
    assert [document["id"] for document in listed] == [first.json["id"]]


@pytest.mark.parametrize("other", [("b.md", "text/markdown"), ("a.md", "text/plain")])
async def test_another_file_name_or_type_with_the_same_key_is_refused(tenant: Tenant, other: tuple[str, str]) -> None:
    responses = []
    for filename, content_type in (("a.md", "text/markdown"), other):
        data = aiohttp.FormData()
        data.add_field("file", b"Kettles boil water.", filename=filename, content_type=content_type)
        responses.append(await tenant.api.call("POST", "/v1/documents", data=data, headers=KEY))
    assert responses[0].status == 202
    assert responses[1].is_problem(422, "idempotency_mismatch")


async def test_another_request_with_the_same_key_is_refused(tenant: Tenant) -> None:
    await tenant.api.post("/v1/collections", {"name": "one"}, headers=KEY)
    assert (await tenant.api.post("/v1/collections", {"name": "two"}, headers=KEY)).is_problem(
        422, "idempotency_mismatch"
    )
    assert (await tenant.api.post("/v1/chat/sessions", {"title": "one"}, headers=KEY)).is_problem(
        422, "idempotency_mismatch"
    )
    names = [found["name"] for found in (await tenant.api.get("/v1/collections")).json["data"]]
    assert sorted(names) == ["default", "one"]


async def test_keys_of_workspaces_are_independent(tenant: Tenant, other: Tenant) -> None:
    ours = await tenant.api.post("/v1/collections", {"name": "one"}, headers=KEY)
    theirs = await other.api.post("/v1/collections", {"name": "two"}, headers=KEY)
    assert (ours.status, theirs.status) == (201, 201)
    assert REPLAYED not in theirs.headers


async def test_a_refused_request_does_not_consume_its_key(tenant: Tenant) -> None:
    refused = await tenant.api.post("/v1/collections", {"name": "default"}, headers=KEY)
    assert refused.is_problem(409, "name_taken")
    assert (await tenant.api.post("/v1/collections", {"name": "free"}, headers=KEY)).status == 201


async def test_a_stored_response_is_not_returned_without_the_scope(tenant: Tenant, admin: Api, client: Any) -> None:
    await tenant.api.post("/v1/collections", {"name": "one"}, headers=KEY)
    reader = Api(client, await make_key(admin, tenant.id, scopes=["read"]))
    assert (await reader.post("/v1/collections", {"name": "one"}, headers=KEY)).is_problem(403, "forbidden")


@pytest.mark.parametrize("key", ["", "k" * 201, "tab\tbed"])
async def test_an_invalid_key_is_refused(tenant: Tenant, key: str) -> None:
    response = await tenant.api.post("/v1/collections", {"name": "one"}, headers={"Idempotency-Key": key})
    assert response.is_problem(422, "invalid_request")
    assert response.json["errors"][0]["field"] == "Idempotency-Key"


async def test_a_request_repeated_while_the_first_is_in_progress_gets_a_409(
    tenant: Tenant, resources: Resources
) -> None:
    may_continue = asyncio.Event()

    async def slow_file() -> AsyncIterator[bytes]:
        yield b"Kettles "
        await may_continue.wait()
        yield b"boil water."

    data = aiohttp.FormData()
    data.add_field("file", slow_file(), filename="kettles.txt")
    first = asyncio.create_task(tenant.api.call("POST", "/v1/documents", data=data, headers=KEY))
    await until(lambda: count(resources, "idempotency_keys"), what="the claim")
    waiting = await tenant.api.call("POST", "/v1/documents", data=form(b"Kettles boil water."), headers=KEY)
    assert waiting.is_problem(409, "in_progress")
    assert int(waiting.headers["Retry-After"]) >= 1
    may_continue.set()
    first_response = await first
    again = await tenant.api.call("POST", "/v1/documents", data=form(b"Kettles boil water."), headers=KEY)
    assert first_response.json == again.json


async def test_concurrent_requests_with_one_key_take_effect_once(tenant: Tenant) -> None:
    async def ask() -> ApiResponse:
        while True:
            response = await tenant.api.post("/v1/collections", {"name": "crowded"}, headers=KEY)
            if response.status != 409:
                return response
            assert response.is_problem(409, "in_progress")

    responses = await asyncio.gather(*(ask() for _ in range(16)))
    assert {response.status for response in responses} == {201}
    assert len({response.raw for response in responses}) == 1
    assert sum(REPLAYED not in response.headers for response in responses) == 1


async def test_a_key_can_be_reused_after_a_day(tenant: Tenant, resources: Resources) -> None:
    first = await tenant.api.post("/v1/chat/sessions", {"title": "one"}, headers=KEY)
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE idempotency_keys SET created_at = created_at - interval '24 hours'")
    second = await tenant.api.post("/v1/chat/sessions", {"title": "two"}, headers=KEY)
    assert second.status == 201
    assert second.json["id"] != first.json["id"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("is_stored", [True, False])
async def test_a_repeated_question_is_asked_once(
    tenant: Tenant, resources: Resources, *, stream: bool, is_stored: bool
) -> None:
    session = (await tenant.api.post("/v1/chat/sessions", {})).json["id"]
    path, question = f"/v1/chat/sessions/{session}/messages", {"content": "What boils water?", "stream": stream}
    first = await tenant.api.post(path, question, headers=KEY)
    if not is_stored:
        await forget_response(resources)
    again = await tenant.api.post(path, question, headers=KEY)
    assert first.status == again.status == 200
    assert again.headers["X-Run-Id"] == first.headers["X-Run-Id"]
    assert (REPLAYED in again.headers) is is_stored
    assert again.raw.endswith(first.raw[-200:])
    messages = (await tenant.api.get(path)).json["data"]
    assert [message["role"] for message in messages] == ["user", "assistant"]


async def test_a_repeated_reingest_creates_one_job(ready: dict[str, Any], tenant: Tenant, resources: Resources) -> None:
    path = f"/v1/documents/{ready['id']}/reingest"
    first = await tenant.api.post(path, headers=KEY)
    jobs = await count(resources, "jobs")
    again = await tenant.api.post(path, headers=KEY)
    await forget_response(resources)
    found = await tenant.api.post(path, headers=KEY)
    assert [response.status for response in (first, again, found)] == [202, 202, 202]
    assert again.headers[REPLAYED] == "true"
    assert await count(resources, "jobs") == jobs


async def test_stored_responses_about_a_document_are_deleted_with_it(tenant: Tenant, resources: Resources) -> None:
    first = await tenant.api.call("POST", "/v1/documents", data=form(b"Kettles boil water."), headers=KEY)
    document_id = parse_id("doc", first.json["id"])
    async with resources.pool.acquire() as conn:
        assert await idempotency_keys.count_responses_about(conn, tenant.uuid, [document_id]) == 1
        assert await idempotency_keys.blank_responses(conn, tenant.uuid, [document_id]) == 1
        assert await idempotency_keys.count_responses_about(conn, tenant.uuid, [document_id]) == 0


async def test_every_post_under_v1_describes_the_header(stranger: Api) -> None:
    described = (await stranger.get("/openapi.json")).json["paths"]
    posts = {path: methods["post"] for path, methods in described.items() if "post" in methods}
    taking = {
        path
        for path, operation in posts.items()
        if any(parameter["name"] == "Idempotency-Key" for parameter in operation["parameters"])
    }
    assert taking == {path for path in posts if path.startswith("/v1/")}

"""A request that is sent again under its Idempotency-Key gets the same answer, and changes nothing twice."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import pytest

from ragsvc import uploads
from ragsvc.db import idempotency_keys
from ragsvc.http.contract.ids import parse_id
from tests.http.support.documents import form
from tests.http.support.proxy import ResponseDroppingProxy
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.resources import Resources
    from tests.http.conftest import Api, ApiResponse, Client, Tenant

KEY = {"Idempotency-Key": "the-first-try"}
REPLAYED = "Idempotent-Replayed"
TRIES = 200


@dataclass(frozen=True, slots=True)
class Making:
    """A POST that makes something, and where all of that kind are listed or counted."""

    path: str
    count: str
    body: dict[str, Any] = field(default_factory=dict)
    by_operator: bool = False
    identity: str = "id"


MAKINGS = {
    "a workspace": Making("/v1/workspaces", "workspaces", {"name": "repeated"}, by_operator=True),
    "a key": Making("/v1/workspaces/{workspace}/keys", "api_keys", {"name": "repeated"}, by_operator=True),
    "a collection": Making("/v1/collections", "collections", {"name": "repeated"}),
    "an upload": Making("/v1/uploads", "upload_sessions", {"filename": "a.txt", "size_bytes": 9}),
    "an upload token": Making("/v1/upload-tokens", "upload_tokens", identity="token"),
    "a conversation": Making("/v1/chat/sessions", "chat_sessions", {"title": "repeated"}),
}


@pytest.fixture(params=MAKINGS)
def making(request: pytest.FixtureRequest, tenant: Tenant) -> Making:
    """Each POST that makes something of a JSON body."""
    making = MAKINGS[request.param]
    return Making(
        making.path.format(workspace=tenant.id), making.count, making.body, making.by_operator, making.identity
    )


async def count(resources: Resources, table: str) -> int:
    """Count a table's rows, of all workspaces."""
    async with resources.pool.acquire() as conn:
        counted: int = await conn.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - a table of ours
        return counted


async def forget_answer(resources: Resources, key: str = KEY["Idempotency-Key"]) -> None:
    """Leave what a process leaves that dies between its commit and its answer, once its lease is over."""
    async with resources.pool.acquire() as conn:
        changed = await conn.execute(
            "UPDATE idempotency_keys SET status = NULL, body = NULL, document_ids = '{}', lease_until = now()"
            " WHERE key = $1",
            key,
        )
    assert changed == "UPDATE 1"


@pytest.fixture(autouse=True)
async def clean(resources: Resources) -> AsyncIterator[None]:
    """These tests share the operator and a key."""
    yield
    async with resources.pool.acquire() as conn:
        await conn.execute("DELETE FROM idempotency_keys")


async def test_what_is_sent_again_is_made_once(
    making: Making, tenant: Tenant, admin: Api, resources: Resources
) -> None:
    api = admin if making.by_operator else tenant.api
    first = await api.post(making.path, making.body, headers=KEY)
    made = await count(resources, making.count)
    again = await api.post(making.path, making.body, headers=KEY)
    assert first.status == again.status == 201
    assert first.json == again.json
    assert REPLAYED not in first.headers
    assert again.headers[REPLAYED] == "true"
    assert again.headers["Content-Type"] == "application/json"
    assert await count(resources, making.count) == made


async def test_what_a_dead_process_made_is_found_again(
    making: Making, tenant: Tenant, admin: Api, resources: Resources
) -> None:
    api = admin if making.by_operator else tenant.api
    first = await api.post(making.path, making.body, headers=KEY)
    made = await count(resources, making.count)
    await forget_answer(resources)
    again = await api.post(making.path, making.body, headers=KEY)
    assert again.status == 201
    assert first.json[making.identity] == again.json[making.identity]
    assert await count(resources, making.count) == made
    third = await api.post(making.path, making.body, headers=KEY)
    assert third.json == again.json
    assert third.headers[REPLAYED] == "true"


async def test_a_secret_that_can_be_shown_again_is_not_stored(tenant: Tenant, admin: Api, resources: Resources) -> None:
    key = (await admin.post(f"/v1/workspaces/{tenant.id}/keys", {"name": "a key"}, headers=KEY)).json["key"]
    token = (await tenant.api.post("/v1/upload-tokens", {}, headers=KEY)).json["token"]
    async with resources.pool.acquire() as conn:
        rows = str(await conn.fetch("SELECT * FROM idempotency_keys"))
    assert "the-first-try" in rows
    assert key[10:] not in rows
    assert token[10:] not in rows


async def test_a_document_that_is_sent_again_is_one_document(tenant: Tenant, resources: Resources) -> None:
    sent = [form(b"Kettles boil water.", attributes='{"team": "ops"}') for _ in range(3)]
    first = await tenant.api.call("POST", "/v1/documents", data=sent[0], headers=KEY)
    again = await tenant.api.call("POST", "/v1/documents", data=sent[1], headers=KEY)
    assert first.status == again.status == 202
    assert first.json == again.json
    assert again.headers[REPLAYED] == "true"
    await forget_answer(resources)
    found = await tenant.api.call("POST", "/v1/documents", data=sent[2], headers=KEY)
    assert found.status == 202
    assert found.json["id"] == first.json["id"]
    listed = (await tenant.api.get("/v1/documents")).json["data"]
    assert [document["id"] for document in listed] == [first.json["id"]]
    assert (await tenant.api.get("/v1/workspace")).json["usage"]["storage_bytes"] == 19


@pytest.mark.parametrize("is_answered", [True, False])
@pytest.mark.parametrize(
    ("content", "attributes"), [(b"Kettles boil tea.", '{"team": "ops"}'), (b"Kettles boil water.", '{"team": "hr"}')]
)
async def test_another_file_or_field_under_the_same_key_is_refused(
    tenant: Tenant, resources: Resources, *, is_answered: bool, content: bytes, attributes: str
) -> None:
    data = form(b"Kettles boil water.", attributes='{"team": "ops"}')
    first = await tenant.api.call("POST", "/v1/documents", data=data, headers=KEY)
    if not is_answered:
        await forget_answer(resources)
    other = await tenant.api.call("POST", "/v1/documents", data=form(content, attributes=attributes), headers=KEY)
    assert other.is_problem(422, "idempotency_mismatch")
    listed = (await tenant.api.get("/v1/documents")).json["data"]
    assert [document["id"] for document in listed] == [first.json["id"]]


@pytest.mark.parametrize("other", [("b.md", "text/markdown"), ("a.md", "text/plain")])
async def test_another_name_or_type_of_the_file_is_another_request(tenant: Tenant, other: tuple[str, str]) -> None:
    responses = []
    for filename, content_type in (("a.md", "text/markdown"), other):
        data = aiohttp.FormData()
        data.add_field("file", b"Kettles boil water.", filename=filename, content_type=content_type)
        responses.append(await tenant.api.call("POST", "/v1/documents", data=data, headers=KEY))
    assert responses[0].status == 202
    assert responses[1].is_problem(422, "idempotency_mismatch")


async def test_another_request_under_the_same_key_is_refused(tenant: Tenant) -> None:
    await tenant.api.post("/v1/collections", {"name": "one"}, headers=KEY)
    assert (await tenant.api.post("/v1/collections", {"name": "two"}, headers=KEY)).is_problem(
        422, "idempotency_mismatch"
    )
    assert (await tenant.api.post("/v1/chat/sessions", {"title": "one"}, headers=KEY)).is_problem(
        422, "idempotency_mismatch"
    )
    names = [found["name"] for found in (await tenant.api.get("/v1/collections")).json["data"]]
    assert sorted(names) == ["default", "one"]


async def test_a_key_means_nothing_in_another_workspace(tenant: Tenant, other: Tenant) -> None:
    ours = await tenant.api.post("/v1/collections", {"name": "one"}, headers=KEY)
    theirs = await other.api.post("/v1/collections", {"name": "two"}, headers=KEY)
    assert (ours.status, theirs.status) == (201, 201)
    assert REPLAYED not in theirs.headers


async def test_a_refused_request_does_not_use_up_its_key(tenant: Tenant) -> None:
    refused = await tenant.api.post("/v1/collections", {"name": "default"}, headers=KEY)
    assert refused.is_problem(409, "name_taken")
    assert (await tenant.api.post("/v1/collections", {"name": "free"}, headers=KEY)).status == 201


async def test_a_key_that_lacks_the_scope_learns_nothing_of_an_answer(tenant: Tenant, admin: Api, client: Any) -> None:
    from tests.http.conftest import Api, make_key  # noqa: PLC0415 - the class shadows the annotation's import

    await tenant.api.post("/v1/collections", {"name": "one"}, headers=KEY)
    reader = Api(client, await make_key(admin, tenant.id, scopes=["read"]))
    assert (await reader.post("/v1/collections", {"name": "one"}, headers=KEY)).is_problem(403, "forbidden")


@pytest.mark.parametrize("key", ["", "k" * 201, "tab\tbed"])
async def test_a_key_that_is_none_is_refused(tenant: Tenant, key: str) -> None:
    answer = await tenant.api.post("/v1/collections", {"name": "one"}, headers={"Idempotency-Key": key})
    assert answer.is_problem(422, "invalid_request")
    assert answer.json["errors"][0]["field"] == "Idempotency-Key"


async def test_while_a_request_is_being_answered_its_repeat_is_told_to_wait(
    tenant: Tenant, resources: Resources
) -> None:
    go_on = asyncio.Event()

    async def slow_file() -> AsyncIterator[bytes]:
        yield b"Kettles "
        await go_on.wait()
        yield b"boil water."

    data = aiohttp.FormData()
    data.add_field("file", slow_file(), filename="kettles.txt")
    first = asyncio.create_task(tenant.api.call("POST", "/v1/documents", data=data, headers=KEY))
    await until(lambda: count(resources, "idempotency_keys"), what="the claim")
    waiting = await tenant.api.call("POST", "/v1/documents", data=form(b"Kettles boil water."), headers=KEY)
    assert waiting.is_problem(409, "in_progress")
    assert int(waiting.headers["Retry-After"]) >= 1
    go_on.set()
    answered = await first
    again = await tenant.api.call("POST", "/v1/documents", data=form(b"Kettles boil water."), headers=KEY)
    assert answered.json == again.json


async def test_many_at_once_make_one(tenant: Tenant) -> None:
    async def ask() -> ApiResponse:
        while True:
            answer = await tenant.api.post("/v1/collections", {"name": "crowded"}, headers=KEY)
            if answer.status != 409:
                return answer
            assert answer.is_problem(409, "in_progress")

    responses = await asyncio.gather(*(ask() for _ in range(16)))
    assert {answer.status for answer in responses} == {201}
    assert len({answer.raw for answer in responses}) == 1
    assert sum(REPLAYED not in answer.headers for answer in responses) == 1


async def test_a_day_later_a_key_is_a_new_one(tenant: Tenant, resources: Resources) -> None:
    first = await tenant.api.post("/v1/chat/sessions", {"title": "one"}, headers=KEY)
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE idempotency_keys SET created_at = created_at - interval '24 hours'")
    second = await tenant.api.post("/v1/chat/sessions", {"title": "two"}, headers=KEY)
    assert second.status == 201
    assert second.json["id"] != first.json["id"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("is_answered", [True, False])
async def test_a_question_that_is_sent_again_is_asked_once(
    tenant: Tenant, resources: Resources, *, stream: bool, is_answered: bool
) -> None:
    session = (await tenant.api.post("/v1/chat/sessions", {})).json["id"]
    path, question = f"/v1/chat/sessions/{session}/messages", {"content": "What boils water?", "stream": stream}
    first = await tenant.api.post(path, question, headers=KEY)
    if not is_answered:
        await forget_answer(resources)
    again = await tenant.api.post(path, question, headers=KEY)
    assert first.status == again.status == 200
    assert again.headers["X-Run-Id"] == first.headers["X-Run-Id"]
    assert (REPLAYED in again.headers) is is_answered
    assert again.raw.endswith(first.raw[-200:])
    messages = (await tenant.api.get(path)).json["data"]
    assert [message["role"] for message in messages] == ["user", "assistant"]


async def test_a_document_is_ingested_again_once(ready: dict[str, Any], tenant: Tenant, resources: Resources) -> None:
    path = f"/v1/documents/{ready['id']}/reingest"
    first = await tenant.api.post(path, headers=KEY)
    jobs = await count(resources, "jobs")
    again = await tenant.api.post(path, headers=KEY)
    await forget_answer(resources)
    found = await tenant.api.post(path, headers=KEY)
    assert [answer.status for answer in (first, again, found)] == [202, 202, 202]
    assert again.headers[REPLAYED] == "true"
    assert await count(resources, "jobs") == jobs


async def test_a_failed_request_may_be_sent_again_at_once(
    tenant: Tenant, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:

        async def refuse(*_arguments: object, **_options: object) -> None:
            raise ConnectionRefusedError("the store is away")

        broken.setattr(resources.storage, "create_multipart", refuse, raising=False)
        failed = await tenant.api.post("/v1/uploads", {"filename": "a.txt", "size_bytes": 9}, headers=KEY)
        assert failed.status == 503
    answer = await tenant.api.post("/v1/uploads", {"filename": "a.txt", "size_bytes": 9}, headers=KEY)
    assert answer.status == 201
    assert answer.json["status"] == "pending"


async def test_a_form_that_was_cut_may_be_sent_again(tenant: Tenant, resources: Resources) -> None:
    async def half_a_file() -> AsyncIterator[bytes]:
        yield b"Kettles "
        await until(lambda: count(resources, "upload_sessions"), what="the first half")
        raise ConnectionError("the line is cut")

    data = aiohttp.FormData()
    data.add_field("file", half_a_file(), filename="kettles.txt")
    with pytest.raises(aiohttp.ClientError):
        await tenant.api.call("POST", "/v1/documents", data=data, headers=KEY)
    await _send_until_answered(tenant, b"Kettles boil water.")


@pytest.mark.parametrize("broken", ["_open_upload", "register_upload"])
async def test_a_form_that_failed_may_be_sent_again(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    async def refuse(*_arguments: object, **_options: object) -> None:
        raise ConnectionRefusedError("Postgres is away")

    sent = [form(b"Kettles boil water."), form(b"Kettles boil tea.")]
    with monkeypatch.context() as patch:
        patch.setattr(uploads.documents, broken, refuse)
        assert (await tenant.api.call("POST", "/v1/documents", data=sent[0], headers=KEY)).status == 503
    if broken == "register_upload":
        # Which file it is had been written down by then.
        other = await tenant.api.call("POST", "/v1/documents", data=sent[1], headers=KEY)
        assert other.is_problem(422, "idempotency_mismatch")
    await _send_until_answered(tenant, b"Kettles boil water.")


async def _send_until_answered(tenant: Tenant, content: bytes) -> None:
    """Send a form under the key as SDKs do, and see that there is one document of it, however often it is sent."""

    async def send() -> ApiResponse | None:
        answer = await tenant.api.call("POST", "/v1/documents", data=form(content), headers=KEY)
        return None if answer.status == 409 else answer

    first = await until(send, what="an answer")
    again = await until(send, what="the same answer")
    assert (first.status, again.status) == (202, 202)
    assert first.json == again.json
    listed = (await tenant.api.get("/v1/documents")).json["data"]
    assert [document["id"] for document in listed] == [first.json["id"]]
    assert (await tenant.api.get("/v1/workspace")).json["usage"]["storage_bytes"] == len(content)


async def test_what_was_answered_about_a_document_goes_with_it(tenant: Tenant, resources: Resources) -> None:
    first = await tenant.api.call("POST", "/v1/documents", data=form(b"Kettles boil water."), headers=KEY)
    document_id = parse_id("doc", first.json["id"])
    async with resources.pool.acquire() as conn:
        assert await idempotency_keys.count_responses_about(conn, tenant.uuid, document_id) == 1
        assert await idempotency_keys.blank_responses(conn, tenant.uuid, document_id) == 1
        assert await idempotency_keys.count_responses_about(conn, tenant.uuid, document_id) == 0


@dataclass(frozen=True, slots=True)
class Blind:
    """A client as SDKs are: whatever goes wrong on the line, it sends the same again."""

    api: Api
    proxy: ResponseDroppingProxy

    async def post(self, path: str, **options: Any) -> Any:
        """Send until there is an answer, and return it parsed; a file is sent anew each time."""
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
                        # The service has not noticed yet that the line was cut.
                        await asyncio.sleep(0.05)
                except aiohttp.ClientError:
                    continue
        raise AssertionError("there never was an answer")


@pytest.fixture
async def blind(tenant: Tenant, client: Client) -> AsyncIterator[Blind]:
    """A client that loses the answers to its first two tries, each after the commit."""
    assert client.port is not None
    async with ResponseDroppingProxy(client.host, client.port, drops=2) as proxy:
        yield Blind(tenant.api, proxy)
        assert proxy.left == 0


async def test_a_line_that_is_cut_after_the_commit_leaves_one_document(blind: Blind, tenant: Tenant) -> None:
    document = await blind.post("/v1/documents", form_of=lambda: form(b"Kettles boil water."))
    listed = (await tenant.api.get("/v1/documents")).json["data"]
    assert [found["id"] for found in listed] == [document["id"]]
    assert len((await tenant.api.get("/v1/files")).json["data"]) == 1


async def test_a_line_that_is_cut_after_the_commit_leaves_one_upload(blind: Blind, tenant: Tenant) -> None:
    upload = await blind.post("/v1/uploads", json={"filename": "a.txt", "size_bytes": 9})
    listed = (await tenant.api.get("/v1/uploads")).json["data"]
    assert [found["id"] for found in listed] == [upload["id"]]


async def test_a_line_that_is_cut_after_the_commit_leaves_one_run(blind: Blind, tenant: Tenant) -> None:
    session = (await tenant.api.post("/v1/chat/sessions", {})).json["id"]
    path = f"/v1/chat/sessions/{session}/messages"
    answer = await blind.post(path, json={"content": "What boils water?", "stream": False})
    runs = (await tenant.api.get(f"/v1/chat/runs?session_id={session}")).json["data"]
    assert [run["id"] for run in runs] == [answer["run_id"]]
    assert len((await tenant.api.get(path)).json["data"]) == 2


async def test_every_post_is_described_with_the_header(stranger: Api) -> None:
    described = (await stranger.get("/openapi.json")).json["paths"]
    posts = {path: methods["post"] for path, methods in described.items() if "post" in methods}
    taking = {
        path
        for path, operation in posts.items()
        if any(parameter["name"] == "Idempotency-Key" for parameter in operation["parameters"])
    }
    assert taking == {path for path in posts if path.startswith("/v1/")}

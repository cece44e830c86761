"""What belongs to another workspace answers like what was never there, on every route that takes an id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import orjson
import pytest

from ragsvc.http.auth import Door
from ragsvc.http.openapi.parameters import ID_PARAMETERS
from ragsvc.http.operations import operation_of
from ragsvc.models.ids import format_id
from tests.http.documents import form

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp

    from tests.http.conftest import Answer, Client, Tenant

# A body that fits, for every route that takes one beside an id.
BODIES: dict[tuple[str, str], dict[str, object]] = {
    ("PATCH", "/v1/documents/{document_id}"): {"attributes": {"taken": True}},
    ("POST", "/v1/documents/{document_id}/reingest"): {},
    ("PATCH", "/v1/collections/{collection_id}"): {"name": "taken"},
    ("PATCH", "/v1/chat/sessions/{session_id}"): {"title": "taken"},
    ("POST", "/v1/chat/runs/{run_id}/retry"): {"stream": False},
    ("POST", "/v1/chat/sessions/{session_id}/messages"): {"content": "Whose is this?", "stream": False},
    ("POST", "/v1/uploads/{upload_id}/part-urls"): {"part_numbers": [1]},
}
# What tus asks of every request, before it looks for an upload.
TUS = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
HEADERS = {
    ("HEAD", "/tus/{upload_id}"): TUS,
    ("PATCH", "/tus/{upload_id}"): TUS,
    ("DELETE", "/tus/{upload_id}"): TUS,
    ("POST", "/tus/{upload_id}"): {**TUS, "X-HTTP-Method-Override": "PATCH"},
}
# What paths name beside ids.
OTHER_PARAMETERS = {"part_number": "1"}
VOLATILE_HEADERS = {"x-request-id", "date"}


@pytest.fixture
async def foreign(other: Tenant) -> dict[str, str]:
    """Ids of another workspace, by the name that paths give them."""
    document = await other.upload()
    removed = await other.upload(b"removed")
    deletion = (await other.api.delete(f"/v1/documents/{removed['id']}")).json
    collection = (await other.api.post("/v1/collections", {"name": "theirs"})).json
    session = (await other.api.post("/v1/chat/sessions", {"title": "theirs"})).json
    webhook = (await other.api.post("/v1/webhooks", {"url": "https://hooks.example.com"})).json
    # It can be reached as any session can, and by tus.
    opened = await other.api.call("POST", "/tus", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "1"})
    asked = f"/v1/chat/sessions/{session['id']}/messages"
    answer = (await other.api.post(asked, {"content": "What do kettles boil?", "stream": False})).json
    return {
        "document_id": document["id"],
        "file_id": document["file_id"],
        "collection_id": collection["id"],
        "deletion_id": deletion["deletion_id"],
        "session_id": session["id"],
        "webhook_id": webhook["id"],
        "run_id": answer["run_id"],
        "upload_id": opened.headers["Location"].removeprefix("/tus/"),
    }


def outcome(answer: Answer) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Return everything of an answer that may not differ."""
    headers = {name: value for name, value in answer.headers.items() if name.lower() not in VOLATILE_HEADERS}
    return answer.status, headers, {**orjson.loads(answer.raw), "request_id": None}


async def test_a_foreign_id_answers_exactly_like_an_unknown_one(
    client: Client, tenant: Tenant, foreign: dict[str, str]
) -> None:
    tried = set()
    for route in client.app.router.routes():
        assert route.resource is not None
        method, template = route.method, route.resource.canonical
        contract = operation_of(route.handler)
        assert contract is not None
        named = [name for name in ID_PARAMETERS if "{" + name + "}" in template]
        if not named or contract.doors in {(Door.ADMIN,), (Door.UPLOAD_TOKEN,)}:
            continue
        assert set(named) <= set(foreign), f"add a foreign {named} for {template}"
        assert contract.body is None or (method, template) in BODIES, f"add a body for {method} {template}"
        unknown = {name: format_id(ID_PARAMETERS[name], uuid4()) for name in named}
        theirs, nobodys = [
            await tenant.api.call(
                method,
                template.format(**ids, **OTHER_PARAMETERS),
                json=BODIES.get((method, template)),
                headers=HEADERS.get((method, template)),
            )
            for ids in (foreign, unknown)
        ]
        assert theirs.status == 404, f"{method} {template}"
        if method != "HEAD":
            assert theirs.is_problem(404, "not_found")
            assert outcome(theirs) == outcome(nobodys), f"{method} {template}"
        tried.add((method, template))
    assert len(tried) >= 25


@pytest.mark.parametrize(
    "send",
    [
        lambda tenant, ids: tenant.api.get(f"/v1/documents?collection_id={ids['collection_id']}"),
        lambda tenant, ids: tenant.api.call("POST", "/v1/documents", data=form_for(ids["collection_id"])),
        lambda tenant, ids: tenant.api.post(
            "/v1/documents", {"file_id": ids["file_id"], "collection_id": ids["collection_id"]}
        ),
        lambda tenant, ids: tenant.api.post("/v1/search", {"query": "water", "collection_ids": [ids["collection_id"]]}),
        lambda tenant, ids: tenant.api.post("/v1/chat/sessions", {"collection_ids": [ids["collection_id"]]}),
    ],
    ids=["list filter", "upload", "attach", "search", "chat"],
)
async def test_a_foreign_reference_answers_exactly_like_an_unknown_one(
    tenant: Tenant, foreign: dict[str, str], send: Callable[..., Any]
) -> None:
    unknown = {name: format_id(ID_PARAMETERS[name], uuid4()) for name in foreign}
    theirs, nobodys = await send(tenant, foreign), await send(tenant, unknown)
    assert theirs.is_problem(404, "not_found")
    assert outcome(theirs) == outcome(nobodys)


async def test_a_foreign_file_cannot_be_attached_to_an_own_collection(tenant: Tenant, foreign: dict[str, str]) -> None:
    own = (await tenant.api.post("/v1/collections", {"name": "mine"})).json["id"]
    for file_id in (foreign["file_id"], format_id("file", uuid4())):
        answer = await tenant.api.post("/v1/documents", {"file_id": file_id, "collection_id": own})
        assert answer.is_problem(404, "not_found")


async def test_lists_hold_only_what_is_the_callers(tenant: Tenant, other: Tenant, foreign: dict[str, str]) -> None:
    for path in ("documents", "files", "deletions", "chat/sessions"):
        assert (await tenant.api.get(f"/v1/{path}")).json["data"] == []
        assert (await other.api.get(f"/v1/{path}")).json["data"] != []
    names = [collection["name"] for collection in (await tenant.api.get("/v1/collections")).json["data"]]
    assert names == ["default"]
    assert foreign


async def test_a_cursor_of_another_workspace_shows_nothing_of_it(tenant: Tenant, other: Tenant) -> None:
    for number in range(3):
        await other.upload(f"text {number}".encode())
    own = await tenant.upload(b"mine")
    cursor = (await other.api.get("/v1/documents?limit=1")).json["next_cursor"]
    shown = (await tenant.api.get(f"/v1/documents?cursor={cursor}")).json["data"]
    assert {document["id"] for document in shown} <= {own["id"]}


async def test_the_same_file_in_two_workspaces_stays_two(tenant: Tenant, other: Tenant) -> None:
    mine, theirs = await tenant.upload(b"the same"), await other.upload(b"the same")
    assert mine["sha256"] == theirs["sha256"]
    assert mine["file_id"] != theirs["file_id"]
    assert (await tenant.api.delete(f"/v1/documents/{mine['id']}")).status == 202
    assert (await other.api.get(f"/v1/documents/{theirs['id']}")).json["status"] == "queued"


def form_for(collection_id: str) -> aiohttp.FormData:
    """Return an upload into a collection."""
    return form(b"content", collection_id=collection_id)

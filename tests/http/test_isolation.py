"""Every route that takes an id responds to another workspace's id exactly as it does to an unknown one."""

from __future__ import annotations

import base64
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import orjson
import pytest

from ragsvc.db import upload_sessions
from ragsvc.http.contract.ids import parse_id
from tests.http.support.foreign_calls import COMPANION_KEY, Call, calls_of

if TYPE_CHECKING:
    from ragsvc.resources import Resources
    from tests.http.conftest import Api, ApiResponse, Client, Tenant

TUS = {"Tus-Resumable": "1.0.0"}
# Headers that differ between any two requests.
VOLATILE_HEADERS = {"x-request-id", "date", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"}
PAIRS = 15
ROUNDS = 8
# An additional query to Postgres or call to the store would exceed this difference in every round. Noise on a busy
# machine does not.
MAX_DIFFERENCE = 0.3


@dataclass(frozen=True, slots=True)
class Things:
    """One of each kind of resource that a workspace can own, by id prefix."""

    ids: dict[str, str]
    token: str
    companion_id: str
    companion_key: str

    @property
    def paths(self) -> dict[str, str]:
        """The path of each resource, by id prefix."""
        return {
            "doc": "/v1/documents/{}",
            "file": "/v1/files/{}",
            "col": "/v1/collections/{}",
            "del": "/v1/deletions/{}",
            "chat": "/v1/chat/sessions/{}",
            "run": "/v1/chat/runs/{}",
            "upl": "/v1/uploads/{}",
            "hook": "/v1/webhooks/{}",
            "bulk": "/v1/bulk-operations/{}",
        }

    async def show(self, api: Api) -> dict[str, bytes]:
        """Return the representation of each resource, as its owner gets it."""
        looks: dict[str, bytes] = {}
        for kind, path in self.paths.items():
            response = await api.get(path.format(self.ids[kind]))
            assert response.status == 200, f"{kind} of its owner: {response.raw!r}"
            looks[kind] = response.raw
        return looks


async def make_things(tenant: Tenant, resources: Resources) -> Things:
    """Create one resource of each kind."""
    document = await tenant.upload()
    removed = await tenant.upload(b"removed")
    deletion = (await tenant.api.delete(f"/v1/documents/{removed['id']}")).json
    collection = (await tenant.api.post("/v1/collections", {"name": "things"})).json
    session = (await tenant.api.post("/v1/chat/sessions", {"title": "things"})).json
    asked = f"/v1/chat/sessions/{session['id']}/messages"
    response = (await tenant.api.post(asked, {"content": "What do kettles boil?", "stream": False})).json
    webhook = (await tenant.api.post("/v1/webhooks", {"url": "https://hooks.example.com/things"})).json
    bulk = (await tenant.api.post("/v1/documents/bulk-reingest", {"status": "failed"})).json
    # An upload created by tus can be accessed through both APIs.
    opened = await tenant.api.call("POST", "/tus", headers={**TUS, "Upload-Length": "1"})
    token = (await tenant.api.post("/v1/upload-tokens", {})).json["token"]
    companion = await tenant.api.post(f"/companion/{token}/s3/multipart", {"filename": "kettles.txt"})
    async with resources.pool.acquire() as conn:
        upload_id = parse_id("upl", companion.json["uploadId"])
        upload = await upload_sessions.select_upload(conn, tenant.uuid, upload_id)
    assert upload is not None
    ids = {
        "doc": document["id"],
        "file": document["file_id"],
        "col": collection["id"],
        "del": deletion["deletion_id"],
        "chat": session["id"],
        "run": response["run_id"],
        "upl": opened.headers["Location"].removeprefix("/tus/"),
        "hook": webhook["id"],
        "bulk": bulk["id"],
    }
    return Things(ids, token, companion.json["uploadId"], upload.object_key)


@pytest.fixture
async def own(tenant: Tenant, resources: Resources) -> Things:
    """The resources of the caller."""
    return await make_things(tenant, resources)


@pytest.fixture
async def foreign(other: Tenant, resources: Resources) -> Things:
    """The resources of another workspace."""
    return await make_things(other, resources)


@pytest.fixture
async def calls(stranger: Api) -> list[Call]:
    """Every call with an id that the OpenAPI document describes."""
    return list(calls_of((await stranger.get("/openapi.json")).json))


def outcome(response: ApiResponse) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Return the parts of a response that must not differ."""
    headers = {name: value for name, value in response.headers.items() if name.lower() not in VOLATILE_HEADERS}
    return response.status, headers, {**orjson.loads(response.raw or b"{}"), "request_id": None}


async def send(api: Api, call: Call, own: Things, foreign: Things, *, is_known: bool) -> ApiResponse:
    """Send a call with an id of the other workspace, or with an unknown one."""
    if call.by_token:
        theirs, key = foreign.companion_id, foreign.companion_key
    else:
        assert call.kind in foreign.ids, f"make a foreign {call.kind} for {call.route}"
        theirs, key = foreign.ids[call.kind], None
    unknown = f"{call.kind}_{uuid4().hex}"
    path, options = call.options(own.ids, foreign_id=theirs if is_known else unknown)
    if call.by_token:
        token = next(step for step in path.split("/") if step.startswith("upt_"))
        path = path.replace(token, own.token)
        if COMPANION_KEY in options["params"]:
            options["params"][COMPANION_KEY] = key
    return await api.call(call.method, path, **options)


async def test_a_foreign_id_gets_exactly_the_response_of_an_unknown_one_on_every_route(
    tenant: Tenant, other: Tenant, own: Things, foreign: Things, calls: list[Call]
) -> None:
    before = await foreign.show(other.api)
    for call in calls:
        theirs, nobodys = [await send(tenant.api, call, own, foreign, is_known=known) for known in (True, False)]
        assert theirs.status == 404, f"{call.route} with a foreign {call.id_field}: {theirs.raw!r}"
        assert call.method == "HEAD" or theirs.is_problem(404, "not_found")
        assert outcome(theirs) == outcome(nobodys), f"{call.route} {call.id_field}"
    # The other workspace's resources are unchanged.
    assert await foreign.show(other.api) == before
    print(f"isolation: {len({call.route for call in calls})} routes, {len(calls)} ids")  # noqa: T201 - shown with -rP


async def test_every_route_with_a_key_and_an_id_is_tried(client: Client, calls: list[Call]) -> None:
    tried = {call.route for call in calls}
    for route in client.app.router.routes():
        assert route.resource is not None
        path = route.resource.canonical
        named = path.count("{") - path.count("{upload_token}")
        if not named or path.startswith(("/v1/admin/", "/v1/workspaces/")) or route.method == "HEAD":
            continue
        assert f"{route.method} {path}" in tried
    assert len(tried) >= 40


@pytest.mark.chaos  # measures durations
async def test_response_times_do_not_distinguish_foreign_from_unknown_ids(
    tenant: Tenant, own: Things, foreign: Things, calls: list[Call]
) -> None:
    looks = [call for call in calls if call.method == "GET" and not call.by_token]
    assert len(looks) >= 10
    for call in looks:
        differences = []
        for _round in range(ROUNDS):
            differences.append(await _measure(tenant.api, call, own, foreign))
            if abs(differences[-1]) <= MAX_DIFFERENCE:
                break
        else:
            # Noise can slow down either request, but an additional lookup always slows down the same one.
            assert min(differences) < 0 < max(differences), f"{call.route}: {differences}"


async def _measure(api: Api, call: Call, own: Things, foreign: Things) -> float:
    """Return the relative difference between the median response times for another workspace's id and an unknown id."""
    took: dict[bool, list[float]] = {True: [], False: []}
    for number in range(2 * PAIRS):
        # Each goes first equally often, in case other load on the machine is periodic.
        is_known = number % 4 in {0, 3}
        started = time.perf_counter()
        await send(api, call, own, foreign, is_known=is_known)
        took[is_known].append(time.perf_counter() - started)
    unknown = statistics.median(took[False])
    return (statistics.median(took[True]) - unknown) / unknown


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_foreign_collection_in_tus_metadata_is_not_found(
    tenant: Tenant, foreign: Things, *, is_known: bool
) -> None:
    collection_id = foreign.ids["col"] if is_known else f"col_{uuid4().hex}"
    metadata = f"collection_id {base64.b64encode(collection_id.encode()).decode()}"
    response = await tenant.api.call("POST", "/tus", headers={**TUS, "Upload-Length": "1", "Upload-Metadata": metadata})
    assert response.is_problem(404, "not_found")


async def test_a_foreign_file_cannot_be_attached_to_an_own_collection(tenant: Tenant, foreign: Things) -> None:
    own = (await tenant.api.post("/v1/collections", {"name": "mine"})).json["id"]
    for file_id in (foreign.ids["file"], f"file_{uuid4().hex}"):
        response = await tenant.api.post("/v1/documents", {"file_id": file_id, "collection_id": own})
        assert response.is_problem(404, "not_found")


async def test_lists_contain_only_the_callers_resources(tenant: Tenant, other: Tenant, foreign: Things) -> None:
    for path in ("documents", "files", "deletions", "chat/sessions"):
        assert (await tenant.api.get(f"/v1/{path}")).json["data"] == []
        assert (await other.api.get(f"/v1/{path}")).json["data"] != []
    names = [collection["name"] for collection in (await tenant.api.get("/v1/collections")).json["data"]]
    assert names == ["default"]
    assert foreign


async def test_a_cursor_of_another_workspace_reveals_nothing(tenant: Tenant, other: Tenant) -> None:
    for number in range(3):
        await other.upload(f"text {number}".encode())
    own = await tenant.upload(b"mine")
    cursor = (await other.api.get("/v1/documents?limit=1")).json["next_cursor"]
    shown = (await tenant.api.get(f"/v1/documents?cursor={cursor}")).json["data"]
    assert {document["id"] for document in shown} <= {own["id"]}


async def test_the_same_file_in_two_workspaces_is_stored_twice(tenant: Tenant, other: Tenant) -> None:
    mine, theirs = await tenant.upload(b"the same"), await other.upload(b"the same")
    assert mine["sha256"] == theirs["sha256"]
    assert mine["file_id"] != theirs["file_id"]
    assert (await tenant.api.delete(f"/v1/documents/{mine['id']}")).status == 202
    assert (await other.api.get(f"/v1/documents/{theirs['id']}")).json["status"] == "queued"

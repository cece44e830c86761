"""Row-level security isolates workspaces even if the statements lack their workspace predicates."""

from __future__ import annotations

import importlib
import pkgutil
import re
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

import ragsvc.db
from ragsvc.db.connections.pool import Pool
from ragsvc.domain.ids import format_id
from ragsvc.http.auth import Access
from ragsvc.http.contract.ids import parse_id
from ragsvc.http.contract.openapi.parameters import ID_PARAMETERS
from ragsvc.http.contract.operations import operation_of
from tests.http.support.documents import finish_document, form
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from ragsvc.resources import Resources
    from tests.http.conftest import Client, Tenant

PREDICATE = re.compile(r"\b(?:\w+\.)?workspace_id = \$(\d+)")
SECRET = "marzipan"
# Valid bodies, so that requests are not refused before they access the resource in the path.
BODIES: dict[tuple[str, str], dict[str, object]] = {
    ("PATCH", "/v1/documents/{document_id}"): {"attributes": {"taken": True}},
    ("PATCH", "/v1/collections/{collection_id}"): {"name": "taken"},
    ("PATCH", "/v1/chat/sessions/{session_id}"): {"title": "taken"},
    ("POST", "/v1/chat/sessions/{session_id}/messages"): {"content": "Whose is this?", "stream": False},
    ("POST", "/v1/chat/runs/{run_id}/retry"): {"stream": False},
    ("POST", "/v1/uploads/{upload_id}/part-urls"): {"part_numbers": [1]},
    ("POST", "/v1/search"): {"query": f"{SECRET} kettles", "limit": 100},
}
TUS = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}


@pytest.fixture
def without_predicates(monkeypatch: pytest.MonkeyPatch) -> int:
    """Remove the workspace predicate from every statement; return the number of changed statements."""
    changed = 0
    for module in pkgutil.walk_packages(ragsvc.db.__path__, "ragsvc.db."):
        for name, value in list(vars(importlib.import_module(module.name)).items()):
            if name.isupper() and isinstance(value, str) and PREDICATE.search(value):
                monkeypatch.setattr(f"{module.name}.{name}", PREDICATE.sub(r"$\1::uuid IS NOT NULL", value))
                changed += 1
    return changed


@pytest.fixture
async def theirs(other: Tenant, resources: Resources) -> dict[str, str]:
    """Ids of another workspace's resources, by the name of their path parameter."""
    document = await other.upload(SECRET.encode(), filename=f"{SECRET}.txt")
    await finish_document(resources, other.uuid, parse_id("doc", document["id"]))
    removed = await other.upload(b"removed")
    deletion = (await other.api.delete(f"/v1/documents/{removed['id']}")).json
    collection = (await other.api.post("/v1/collections", {"name": SECRET})).json
    session = (await other.api.post("/v1/chat/sessions", {"title": SECRET})).json
    asked = f"/v1/chat/sessions/{session['id']}/messages"
    # A unique question, so that its embedding is not cached and its usage is recorded.
    question = f"What do the kettles of {uuid4()} boil?"
    answer = (await other.api.post(asked, {"content": question, "stream": False})).json
    await resources.query_usage.write()
    await until(partial(counted_calls, resources, other.uuid), what="the question's usage")
    opened = await other.api.call("POST", "/tus", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "1"})
    return {
        "document_id": document["id"],
        "file_id": document["file_id"],
        "collection_id": collection["id"],
        "deletion_id": deletion["deletion_id"],
        "session_id": session["id"],
        "run_id": answer["run_id"],
        "upload_id": opened.headers["Location"].removeprefix("/tus/"),
    }


async def counted_calls(resources: Resources, workspace_id: UUID) -> int | None:
    """Return the number of recorded embedding calls of a workspace."""
    async with resources.pool.acquire() as conn:
        calls: int | None = await conn.fetchval(
            "SELECT sum(calls) FROM embedding_usage WHERE workspace_id = $1", workspace_id
        )
    return calls


def routes_of_keys(client: Client) -> Iterator[tuple[str, str]]:
    """Yield the method and path of every route that accepts a workspace key."""
    for route in client.app.router.routes():
        contract = operation_of(route.handler)
        assert contract is not None
        assert route.resource is not None
        if not {Access.PUBLIC, Access.UPLOAD_TOKEN} & set(contract.access) and contract.access != (Access.ADMIN,):
            yield route.method, route.resource.canonical


def fill(template: str, ids: dict[str, str]) -> str:
    """Return the path with its parameters filled in; those that are not ids become 1."""
    for name, prefix in ID_PARAMETERS.items():
        template = template.replace("{" + name + "}", ids.get(name, format_id(prefix, uuid4())))
    return re.sub(r"\{\w+\}", "1", template)


async def snapshot(resources: Resources, workspace_id: UUID) -> dict[str, Any]:
    """Return every row of a workspace, by table. Keys are left out because their time of last use changes."""
    async with resources.pool.acquire() as conn:
        tables = await conn.fetch(
            "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
            " WHERE a.attname = 'workspace_id' AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
            " AND c.relname <> 'api_keys' AND c.relnamespace = 'public'::regnamespace"
        )
        return {
            row["relname"]: sorted(
                str(dict(one))
                for one in await conn.fetch(
                    f"SELECT * FROM {row['relname']} WHERE workspace_id = $1",  # noqa: S608 - table names from the catalog
                    workspace_id,
                )
            )
            for row in tables
        }


@pytest.mark.usefixtures("without_predicates")
async def test_without_predicates_no_handler_reveals_or_changes_foreign_rows(
    client: Client, tenant: Tenant, other: Tenant, resources: Resources, theirs: dict[str, str]
) -> None:
    before = await snapshot(resources, other.uuid)
    marks = [SECRET, *theirs.values(), other.id]
    tried = 0
    for method, template in routes_of_keys(client):
        is_tus, path = template.startswith("/tus"), fill(template, theirs)
        body = BODIES.get((method, template), {}) if method in {"POST", "PATCH"} and not is_tus else None
        response = await tenant.api.call(method, path, json=body, headers=TUS if is_tus else None)
        exposed = (response.raw.decode(errors="replace") + str(response.headers)).replace(path, "")
        assert [mark for mark in marks if mark in exposed] == [], f"{method} {template}"
        if any("{" + name + "}" in template for name in theirs):
            assert response.status >= 400, f"{method} {template}"
        tried += 1
    assert tried >= 45
    assert await snapshot(resources, other.uuid) == before


@pytest.mark.usefixtures("without_predicates")
@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
async def test_without_predicates_a_search_finds_only_the_callers_documents(
    tenant: Tenant, other: Tenant, ready: dict[str, Any], theirs: dict[str, str], mode: str
) -> None:
    for api, own in ((tenant.api, ready["id"]), (other.api, theirs["document_id"])):
        found = (await api.post("/v1/search", {"query": "kettles boil water", "mode": mode, "limit": 100})).json["data"]
        assert {hit["document_id"] for hit in found} == {own}


async def test_without_predicates_and_row_security_foreign_rows_are_visible(
    tenant: Tenant, theirs: dict[str, str], without_predicates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check that in the tests above, workspaces are isolated by row-level security and nothing else."""
    assert without_predicates > 50
    path = f"/v1/documents/{theirs['document_id']}"
    assert (await tenant.api.get(path)).is_problem(404, "not_found")
    monkeypatch.setattr(Pool, "scoped_to", lambda self, _workspace_id: self)
    assert (await tenant.api.get(path)).status == 200


async def test_row_security_prevents_writes_into_another_workspace(
    tenant: Tenant, other: Tenant, resources: Resources
) -> None:
    """The policies also apply to a statement that names another workspace."""
    own = resources.scoped_to(tenant.uuid).pool
    async with own.acquire() as conn:
        with pytest.raises(Exception, match="row-level security policy"):
            await conn.execute(
                "INSERT INTO collections (workspace_id, id, name) VALUES ($1, $2, 'theirs')", other.uuid, uuid4()
            )
        assert await conn.execute("UPDATE collections SET name = 'taken'") == "UPDATE 1"
    names = [one["name"] for one in (await other.api.get("/v1/collections")).json["data"]]
    assert names == ["default"]


async def test_requests_run_with_minimal_database_privileges(tenant: Tenant, resources: Resources) -> None:
    own = resources.scoped_to(tenant.uuid).pool
    for refused in (
        "SELECT key_hash FROM api_keys",
        "SELECT * FROM audit_events",
        "DELETE FROM chunk_text",
        "UPDATE workspaces SET quota_bytes = NULL",
        "DELETE FROM workspaces",
        "UPDATE queue_state SET paused = true",
        "DELETE FROM schema_migrations",
        "DROP TABLE documents",
    ):
        async with own.acquire() as conn:
            with pytest.raises(Exception, match=r"permission denied|must be owner"):
                await conn.execute(refused)


@pytest.mark.usefixtures("without_predicates")
async def test_an_upload_token_gives_access_only_to_its_workspace(
    client: Client, tenant: Tenant, other: Tenant
) -> None:
    collection = (await tenant.api.get("/v1/collections")).json["data"][0]["id"]
    made = (await tenant.api.post("/v1/upload-tokens", {"collection_id": collection, "max_bytes": 100})).json
    opened = (await other.api.call("POST", "/tus", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "1"})).headers
    upload_id = opened["Location"].removeprefix("/tus/")
    async with client.get(f"/companion/{made['token']}/s3/multipart/{upload_id}?key={upload_id}") as response:
        assert response.status == 404


@pytest.mark.usefixtures("without_predicates")
async def test_a_reference_to_a_foreign_resource_is_not_found(tenant: Tenant, theirs: dict[str, str]) -> None:
    own = (await tenant.api.get("/v1/collections")).json["data"][0]["id"]
    attached = await tenant.api.post("/v1/documents", {"file_id": theirs["file_id"], "collection_id": own})
    assert attached.is_problem(404, "not_found")
    into = await tenant.api.call("POST", "/v1/documents", data=form(b"x", collection_id=theirs["collection_id"]))
    assert into.is_problem(404, "not_found")

"""The description is complete, and says what the service does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from ragsvc.http.problems import PROBLEMS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.http.conftest import Api, Client, Tenant


@pytest.fixture
async def document(stranger: Api) -> dict[str, Any]:
    """The OpenAPI document, as a client without a key gets it."""
    answer = await stranger.get("/openapi.json")
    assert answer.status == 200
    described: dict[str, Any] = answer.json
    return described


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, path and description of every operation."""
    for path, item in document["paths"].items():
        for method, described in item.items():
            yield method, path, described


async def test_every_route_is_described(client: Client, document: dict[str, Any]) -> None:
    routes = {
        (route.method.lower(), route.resource.canonical)
        for route in client.app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert {(method, path) for method, path, _described in operations(document)} == routes


async def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = set(re.findall(r"'\$ref': '#/components/schemas/([^']+)'", str(document)))
    assert len(references) > 15
    assert references <= set(document["components"]["schemas"])


async def test_no_two_operations_share_a_name(document: dict[str, Any]) -> None:
    names = [described["operationId"] for _method, _path, described in operations(document)]
    assert len(names) == len(set(names))


async def test_every_parameter_of_a_path_is_described(document: dict[str, Any]) -> None:
    for _method, path, described in operations(document):
        named = {parameter["name"] for parameter in described["parameters"] if parameter["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path))


async def test_every_operation_says_which_problems_it_has(document: dict[str, Any]) -> None:
    for method, path, described in operations(document):
        statuses = set(described["responses"])
        assert "500" in statuses, path
        assert not path.startswith("/v1/") or {"401", "403"} <= statuses, path
        assert "{" not in path or "404" in statuses, path
        assert method not in {"post", "patch"} or "requestBody" not in described or "422" in statuses, path
        assert all(re.match(r"[2-5]\d\d", status) for status in statuses)


async def test_a_body_is_described_by_the_model_that_validates_it(document: dict[str, Any], tenant: Tenant) -> None:
    schema = document["components"]["schemas"]["CollectionBody"]
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["name"]
    assert schema["properties"]["name"]["maxLength"] == 200
    assert (await tenant.api.post("/v1/collections", {"name": "x" * 201})).is_problem(422, "invalid_request")


async def test_an_answer_has_exactly_the_fields_that_were_described(
    document: dict[str, Any], tenant: Tenant, ready: dict[str, Any]
) -> None:
    schemas = document["components"]["schemas"]
    shown = {
        "DocumentView": ready,
        "FileView": (await tenant.api.get(f"/v1/files/{ready['file_id']}")).json,
        "CollectionView": (await tenant.api.get(f"/v1/collections/{ready['collection_id']}")).json,
        "OwnWorkspaceView": (await tenant.api.get("/v1/workspace")).json,
        "TextView": (await tenant.api.get(f"/v1/documents/{ready['id']}/text")).json,
        "ChunkView": (await tenant.api.get(f"/v1/documents/{ready['id']}/chunks")).json["data"][0],
    }
    for name, answer in shown.items():
        assert set(answer) == set(schemas[name]["properties"]) == set(schemas[name]["required"]), name


async def test_the_upload_is_described_as_form_and_as_json(document: dict[str, Any]) -> None:
    content = document["paths"]["/v1/documents"]["post"]["requestBody"]["content"]
    assert set(content) == {"multipart/form-data", "application/json"}
    form = content["multipart/form-data"]["schema"]
    assert form["required"] == ["file"]
    assert set(form["properties"]) == {"file", "collection_id", "attributes"}


async def test_the_page_needs_nothing_but_itself(stranger: Api, document: dict[str, Any]) -> None:
    answer = await stranger.get("/docs")
    page = answer.raw.decode()
    assert answer.status == 200
    assert not re.search(r"(?:src|href)=['\"]?(?:https?:)?//|<script|@import|url\(", page)
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert all(f"<tr id={code}>" in page for code in PROBLEMS)
    assert all(path in page for path in document["paths"])

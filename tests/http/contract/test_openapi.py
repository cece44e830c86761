"""The OpenAPI document is complete and matches the behaviour of the service."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import orjson
import pytest
import schemathesis

from ragsvc.http.contract.bodies import parse_body
from ragsvc.http.contract.operations import operation_of
from ragsvc.http.contract.problems import PROBLEMS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.http.conftest import Api, Client, Tenant


@pytest.fixture
async def document(stranger: Api) -> dict[str, Any]:
    """The OpenAPI document, fetched without a key."""
    response = await stranger.get("/openapi.json")
    assert response.status == 200
    described: dict[str, Any] = response.json
    return described


def assert_fits(document: dict[str, Any], schema: dict[str, Any], value: object, *, what: str) -> None:
    """Assert that a value matches a schema of the document."""
    whole = {"allOf": [schema], "components": document["components"]}
    validator = jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
    assert [error.message for error in validator.iter_errors(value)] == [], what


def choices_of(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the schemas of a stream's events."""
    choices: list[dict[str, Any]] = content["text/event-stream"]["x-itemSchema"]["oneOf"]
    return choices


def read_events(raw: bytes) -> list[dict[str, str]]:
    """Return a stream's events as fields by name."""
    frames = [frame for frame in raw.decode().split("\n\n") if frame and not frame.startswith(":")]
    return [dict(line.split(": ", 1) for line in frame.split("\n")) for frame in frames]


def assert_events_fit(document: dict[str, Any], content: dict[str, Any], events: list[dict[str, str]]) -> set[str]:
    """Assert that each event and its data match their schemas; return the names of the events."""
    choices = {choice["properties"]["event"]["const"]: choice for choice in choices_of(content)}
    for event in events:
        choice = choices[event["event"]]
        assert_fits(document, choice, event, what=event["event"])
        data = choice["properties"]["data"]
        assert data["contentMediaType"] == "application/json"
        assert_fits(document, data["contentSchema"], orjson.loads(event["data"]), what=event["event"])
    return {event["event"] for event in events}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, path and description of every operation."""
    for path, item in document["paths"].items():
        for method, described in item.items():
            yield method, path, described


async def test_every_route_is_described(client: Client, document: dict[str, Any]) -> None:
    routes = {
        (route.method.lower(), route.resource.canonical)
        for route in client.app.router.routes()
        if route.resource is not None
    }
    described = {(method, path) for method, path, _described in operations(document)}
    # aiohttp adds a HEAD route for every GET except for streams.
    implied = {("head", path) for method, path in described if method == "get"}
    assert described <= routes
    assert routes - described <= implied


async def test_every_reference_resolves(document: dict[str, Any]) -> None:
    references = set(re.findall(r"'\$ref': '#/components/schemas/([^']+)'", str(document)))
    assert len(references) > 15
    assert references <= set(document["components"]["schemas"])


async def test_every_field_and_parameter_is_described(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    fields = [(model, name, field) for model, schema in schemas.items() for name, field in _fields(schema)]
    parameters = [
        (path, parameter["name"], parameter)
        for _method, path, described in operations(document)
        for parameter in described["parameters"]
    ]
    assert [(where, name) for where, name, value in fields + parameters if not value.get("description")] == []
    # Offsets name their unit.
    named = {"char_start", "char_end", "message_offset", "offset", "start", "end", "length", "text_length"}
    offsets = [(model, name, field) for model, name, field in fields if name in named]
    assert len(offsets) > 10
    assert [(model, name) for model, name, field in offsets if "code points" not in field["description"]] == []


def _fields(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return list(schema.get("properties", {}).items())


async def test_schemas_are_named_for_generated_clients(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert {"Document", "DocumentPage", "SearchRequest", "Problem"} <= set(schemas)
    assert [name for name in schemas if not re.fullmatch(r"[A-Z][A-Za-z]+", name) or name.endswith("View")] == []
    titles = [schema["title"] for schema in schemas.values() if "title" in schema]
    assert len(titles) == len(set(titles))


async def test_no_two_operations_share_a_name(document: dict[str, Any]) -> None:
    names = [described["operationId"] for _method, _path, described in operations(document)]
    assert len(names) == len(set(names))


async def test_every_parameter_of_a_path_is_described(document: dict[str, Any]) -> None:
    for _method, path, described in operations(document):
        named = {parameter["name"] for parameter in described["parameters"] if parameter["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path))


async def test_every_operation_describes_its_problems(document: dict[str, Any]) -> None:
    for method, path, described in operations(document):
        statuses = set(described["responses"])
        assert "500" in statuses, path
        assert not path.startswith("/v1/") or {"401", "403"} <= statuses, path
        assert not set(re.findall(r"{(\w+)}", path)) - {"upload_token"} or "404" in statuses, path
        assert method not in {"post", "patch"} or "requestBody" not in described or "422" in statuses, path
        assert all(re.match(r"[2-5]\d\d", status) for status in statuses)


async def test_a_body_is_described_by_the_model_that_validates_it(document: dict[str, Any], tenant: Tenant) -> None:
    schema = document["components"]["schemas"]["CollectionRequest"]
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["name"]
    assert schema["properties"]["name"]["maxLength"] == 200
    assert (await tenant.api.post("/v1/collections", {"name": "x" * 201})).is_problem(422, "invalid_request")


async def test_a_response_has_exactly_the_described_fields(
    document: dict[str, Any], tenant: Tenant, ready: dict[str, Any]
) -> None:
    schemas = document["components"]["schemas"]
    shown = {
        "Document": ready,
        "File": (await tenant.api.get(f"/v1/files/{ready['file_id']}")).json,
        "Collection": (await tenant.api.get(f"/v1/collections/{ready['collection_id']}")).json,
        "OwnWorkspace": (await tenant.api.get("/v1/workspace")).json,
        "Text": (await tenant.api.get(f"/v1/documents/{ready['id']}/text")).json,
        "Chunk": (await tenant.api.get(f"/v1/documents/{ready['id']}/chunks")).json["data"][0],
    }
    for name, response in shown.items():
        assert set(response) == set(schemas[name]["properties"]) == set(schemas[name]["required"]), name


async def test_document_creation_is_described_as_form_and_as_json(document: dict[str, Any]) -> None:
    content = document["paths"]["/v1/documents"]["post"]["requestBody"]["content"]
    assert set(content) == {"multipart/form-data", "application/json"}
    form = document["components"]["schemas"][content["multipart/form-data"]["schema"]["$ref"].rpartition("/")[2]]
    assert form["required"] == ["file"]
    assert set(form["properties"]) == {"file", "collection_id", "attributes"}


async def test_every_problem_response_lists_its_codes(document: dict[str, Any]) -> None:
    listed: set[str] = set()
    for _method, path, described in operations(document):
        for status, response in described["responses"].items():
            if "$ref" not in response:
                continue
            problem = document["components"]["responses"][response["$ref"].rpartition("/")[2]]
            codes = problem["content"]["application/problem+json"]["examples"]
            assert all(PROBLEMS[code].status == int(status) for code in codes), path
            assert all(f"- `{code}`: " in problem["description"] for code in codes), path
            listed |= set(codes)
    assert listed == set(PROBLEMS)


def test_every_example_of_a_component_fits_its_schema(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    with_example = {name: schema for name, schema in schemas.items() if "examples" in schema}
    assert {name for name, schema in schemas.items() if schema.get("type") == "object"} - set(with_example) == {
        "Problem"
    }
    for name, schema in with_example.items():
        for example in schema["examples"]:
            assert_fits(document, schema, example, what=name)


def test_every_example_of_a_problem_and_a_parameter_fits_its_schema(document: dict[str, Any]) -> None:
    for name, response in document["components"]["responses"].items():
        content = response["content"]["application/problem+json"]
        for example in content["examples"].values():
            assert_fits(document, content["schema"], example["value"], what=name)
    for method, path, described in operations(document):
        for parameter in described["parameters"]:
            assert_fits(
                document, parameter["schema"], parameter["example"], what=f"{method} {path} {parameter['name']}"
            )


def test_every_example_of_a_body_is_accepted_by_its_model(client: Client, document: dict[str, Any]) -> None:
    bodies = [contract.body for route in client.app.router.routes() if (contract := operation_of(route.handler))]
    tried = {body for body in bodies if body is not None}
    for body in tried:
        name = body.__name__.replace("Body", "Request")
        for example in document["components"]["schemas"][name]["examples"]:
            parse_body(orjson.dumps(example), body)
    assert len(tried) > 15


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    # schemathesis validates it against the schema of the OpenAPI specification.
    loaded = schemathesis.openapi.from_dict(document)
    loaded.validate()
    assert len(list(loaded.get_all_operations())) == len(list(operations(document)))


async def test_the_events_of_a_run_fit_their_schemas(document: dict[str, Any], tenant: Tenant, ready: Any) -> None:
    session = (await tenant.api.post("/v1/chat/sessions", {})).json["id"]
    path = "/v1/chat/sessions/{session_id}/messages"
    response = await tenant.api.post(path.format(session_id=session), {"content": "What do kettles boil?"})
    events = read_events(response.raw)
    content = document["paths"][path]["post"]["responses"]["200"]["content"]
    names = assert_events_fit(document, content, events)
    assert ready["status"] == "ready"
    assert {"run.started", "retrieval.completed", "message.delta", "message.completed"} <= names
    assert names <= {choice["properties"]["event"]["const"] for choice in choices_of(content)}


async def test_the_events_of_a_document_fit_their_schema(document: dict[str, Any], tenant: Tenant, ready: Any) -> None:
    response = await tenant.api.get(f"/v1/documents/{ready['id']}/events")
    path = document["paths"]["/v1/documents/{document_id}/events"]
    assert assert_events_fit(document, path["get"]["responses"]["200"]["content"], read_events(response.raw)) == {
        "document.updated"
    }


async def test_the_reference_page_is_self_contained(stranger: Api, document: dict[str, Any]) -> None:
    response = await stranger.get("/docs")
    page = response.raw.decode()
    assert response.status == 200
    assert not re.search(r"(?:src|href)=['\"]?(?:https?:)?//|<script|@import|url\(", page)
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert all(f"<tr id={code}>" in page for code in PROBLEMS)
    assert all(path in page for path in document["paths"])

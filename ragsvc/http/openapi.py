"""The API's description (OpenAPI 3.1), made of the routes and of the models that validate and answer."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from ragsvc import errors
from ragsvc.http.auth import Door
from ragsvc.http.idempotency import KEY_HEADER, MAX_KEY_CHARS, is_repeatable
from ragsvc.http.ids import Prefix, id_pattern
from ragsvc.http.multipart import FILE_FIELD
from ragsvc.http.operations import Media, operation_of
from ragsvc.http.problems import PROBLEMS, ProblemView
from ragsvc.models.jobs import Queue
from ragsvc.models.workspaces import Scope

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import web

    from ragsvc.http.operations import Operation

Schema = dict[str, Any]

REF = "#/components/schemas/{model}"
EVENT_STREAM = "text/event-stream"
ID_PARAMETERS: dict[str, Prefix] = {
    "workspace_id": "ws",
    "key_id": "key",
    "collection_id": "col",
    "document_id": "doc",
    "file_id": "file",
    "deletion_id": "del",
    "upload_id": "upl",
    "session_id": "chat",
    "run_id": "run",
}


@dataclass(frozen=True, slots=True)
class DescribedRoute:
    """A route with what was declared of it."""

    method: str
    path: str
    name: str
    operation: Operation


def describe(app: web.Application) -> Schema:
    """Return the OpenAPI document of everything that the application answers."""
    described = list(_described_routes(app))
    schemas, components = _schemas(described)
    paths: dict[str, Schema] = {}
    for route in described:
        paths.setdefault(route.path, {})[route.method.lower()] = _describe_operation(route, schemas, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ragsvc", "version": version("ragsvc"), "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "A workspace's key."},
                "admin_key": {"type": "http", "scheme": "bearer", "description": "ADMIN_API_KEY of the server."},
            },
        },
    }


def _described_routes(app: web.Application) -> Iterator[DescribedRoute]:
    for route in app.router.routes():
        contract = operation_of(route.handler)
        if contract is not None and route.resource is not None and route.method != "HEAD":
            yield DescribedRoute(route.method, route.resource.canonical, route.handler.__name__, contract)


def _schemas(described: list[DescribedRoute]) -> tuple[dict[object, Schema], Schema]:
    """Return each model's schema, and the definitions that the schemas refer to."""
    taken: dict[Any, str] = {ProblemView: "serialization"}
    for route in described:
        contract = route.operation
        taken |= {model: "validation" for model in (contract.body, contract.form, contract.query) if model}
        views = (view.json if isinstance(view, Media) else view for view in contract.answers.values())
        taken |= {view: "serialization" for view in views if view}
    inputs: Any = [(model, mode, TypeAdapter(model)) for model, mode in taken.items()]
    made, definitions = TypeAdapter.json_schemas(inputs, ref_template=REF)
    return {model: schema for (model, _mode), schema in made.items()}, definitions.get("$defs", {})


def _describe_operation(route: DescribedRoute, schemas: dict[object, Schema], components: Schema) -> Schema:
    contract = route.operation
    described: Schema = {
        "operationId": route.name,
        "summary": contract.summary,
        "tags": [_tag(route.path)],
        "parameters": [
            *_path_parameters(route.path),
            *_query_parameters(contract, schemas, components),
            *_header_parameters(route),
        ],
        "responses": {**_answers(contract, schemas), **_problems(route)},
        "security": _security(contract),
    }
    scopes = [str(door) for door in contract.doors if isinstance(door, Scope)]
    if scopes:
        described["description"] = f"Needs a key with the scope {' or '.join(scopes)}."
    if body := _request_body(contract, schemas, components):
        described["requestBody"] = body
    return described


def _tag(path: str) -> str:
    steps = [step for step in path.split("/") if step and step != "v1"]
    return steps[0] if steps else "service"


def _security(contract: Operation) -> list[Schema]:
    if Door.PUBLIC in contract.doors or Door.UPLOAD_TOKEN in contract.doors:
        return []
    keys: list[Schema] = [{"key": []}] if any(isinstance(door, Scope) for door in contract.doors) else []
    return [*keys, {"admin_key": []}] if Door.ADMIN in contract.doors else keys


def _path_parameters(path: str) -> Iterator[Schema]:
    for step in path.split("/"):
        if not step.startswith("{"):
            continue
        name = step.strip("{}")
        schema: Schema = {"type": "string"}
        if name in ID_PARAMETERS:
            schema["pattern"] = id_pattern(ID_PARAMETERS[name])
        elif name == "queue":
            schema["enum"] = [str(queue) for queue in Queue]
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameters(contract: Operation, schemas: dict[object, Schema], components: Schema) -> Iterator[Schema]:
    if contract.query is None:
        return
    schema = _resolve(schemas[contract.query], components)
    for name, field in schema.get("properties", {}).items():
        parameter: Schema = {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", []),
            "schema": field,
        }
        if "description" in field:
            parameter["description"] = field["description"]
        yield parameter


def _header_parameters(route: DescribedRoute) -> Iterator[Schema]:
    if is_repeatable(route.method, route.path):
        yield {
            "name": KEY_HEADER,
            "in": "header",
            "required": False,
            "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARS},
            "description": "The same key and request again, within 24 hours, gets the same answer and does nothing.",
        }


def _request_body(contract: Operation, schemas: dict[object, Schema], components: Schema) -> Schema | None:
    content: Schema = {}
    if contract.form is not None:
        fields = _resolve(schemas[contract.form], components)
        file = {"type": "string", "contentMediaType": "application/octet-stream"}
        content["multipart/form-data"] = {
            "schema": {
                **fields,
                "properties": {FILE_FIELD: file, **fields.get("properties", {})},
                "required": [FILE_FIELD, *fields.get("required", [])],
            }
        }
    if contract.body is not None:
        content["application/json"] = {"schema": schemas[contract.body]}
    return {"content": content, "required": not contract.body_optional} if content else None


def _answers(contract: Operation, schemas: dict[object, Schema]) -> Schema:
    answers: Schema = {}
    for status, view in contract.answers.items():
        answer: Schema = {"description": "Done."}
        if isinstance(view, Media):
            answer["description"] = view.description
            answer["content"] = {view.content_type: {"schema": {"type": "string"}}}
            if view.json is not None:
                answer["content"]["application/json"] = {"schema": schemas[view.json]}
        elif view is not None:
            answer["content"] = {"application/json": {"schema": schemas[view]}}
        answers[str(status)] = answer
    return answers


def _problems(route: DescribedRoute) -> Schema:
    by_status: dict[int, set[str]] = {}
    for code in _codes(route):
        by_status.setdefault(PROBLEMS[code].status, set()).add(code)
    return {
        str(status): {
            "description": f"Problem: {', '.join(sorted(codes))}.",
            "content": {"application/problem+json": {"schema": {"$ref": REF.format(model=ProblemView.__name__)}}},
        }
        for status, codes in sorted(by_status.items())
        if status not in route.operation.answers
    }


def _codes(route: DescribedRoute) -> set[str]:
    contract = route.operation
    kinds: set[type[errors.RagsvcError]] = {errors.RagsvcError, errors.Unavailable, *contract.problems}
    if Door.PUBLIC not in contract.doors:
        kinds |= {errors.Unauthorized, errors.Forbidden, errors.RateLimited}
    if "{" in route.path:
        kinds.add(errors.NotFound)
    if contract.query:
        kinds.add(errors.InvalidRequest)
    if is_repeatable(route.method, route.path):
        kinds |= {errors.InvalidRequest, errors.IdempotencyMismatch, errors.InProgress}
    if contract.body or contract.form:
        kinds |= {
            errors.RequestError,
            errors.InvalidJson,
            errors.InvalidRequest,
            errors.TooLarge,
            errors.UnsupportedMediaType,
        }
    if any(isinstance(view, Media) and view.content_type == EVENT_STREAM for view in contract.answers.values()):
        kinds.add(errors.TooManyStreams)
    return {kind.code for kind in kinds}


def _resolve(schema: Schema, components: Schema) -> Schema:
    reference = schema.get("$ref")
    return components[str(reference).rpartition("/")[2]] if reference else schema

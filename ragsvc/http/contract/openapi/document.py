"""Puts the description of the whole API together."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ragsvc.domain.workspaces import Scope
from ragsvc.http.auth import Access
from ragsvc.http.contract.multipart import FILE_FIELD
from ragsvc.http.contract.openapi.examples import add_examples, example_of
from ragsvc.http.contract.openapi.parameters import describe_parameters
from ragsvc.http.contract.openapi.responses import (
    COMMON,
    JSON_TYPE,
    describe_header,
    describe_problems,
    describe_responses,
    problem_codes,
)
from ragsvc.http.contract.openapi.schemas import Schema, Schemas, collect_schemas, without_null
from ragsvc.http.contract.operations import operation_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import web

    from ragsvc.http.contract.operations import Operation

ABOUT = """\
Every answer carries `X-Request-Id`; send one, and it is taken over into the log. Errors are `application/problem+json`
(RFC 9457), told apart by `code`. An id of another workspace is answered like one that never was: 404. Lists are paged
by `next_cursor`, newest first. A POST with an `Idempotency-Key` may be sent again blindly."""
TAGS = {
    "workspaces": "Tenants and their keys, for the operator.",
    "workspace": "The caller's own workspace.",
    "collections": "Documents that are searched together.",
    "documents": "What was uploaded, and what became of it.",
    "bulk-operations": "How far calls about many documents are.",
    "uploads": "Files of any size, in parts that can be sent again.",
    "upload-tokens": "Leave for a page to upload by itself.",
    "companion": "Uploads by Uppy, which takes this for its Companion.",
    "tus": "Uploads by tus 1.0.",
    "webhooks": "Where a workspace is told what became of its documents.",
    "files": "Stored source files.",
    "deletions": "What was deleted, and the proof.",
    "search": "Hybrid, dense and lexical search.",
    "chat": "Conversations, and answers with checked citations.",
    "usage": "What models cost: answers and embeddings.",
    "admin": "Queues and dead letters, for the operator.",
    "service": "Health, metrics and this description.",
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
    routes = list(_described_routes(app))
    schemas = collect_schemas(route.operation for route in routes)
    paths: dict[str, Schema] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _describe_operation(route, schemas)
    problems = describe_problems(problem_codes(route.method, route.path, route.operation) for route in routes)
    add_examples(schemas)
    used = {tag for item in paths.values() for described in item.values() for tag in described["tags"]}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ragsvc",
            "version": version("ragsvc"),
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": tag, "description": TAGS[tag]} if tag in TAGS else {"name": tag} for tag in sorted(used)],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "headers": {header.name: describe_header(header) for header in COMMON},
            "responses": problems,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "A workspace's key."},
                "admin_key": {"type": "http", "scheme": "bearer", "description": "ADMIN_API_KEY of the server."},
            },
        },
    }


def _described_routes(app: web.Application) -> Iterator[DescribedRoute]:
    # Every GET answers HEAD too, without its body; only a HEAD with a handler of its own is worth a word.
    gets = {route.handler for route in app.router.routes() if route.method == "GET"}
    for route in app.router.routes():
        contract = operation_of(route.handler)
        is_implied = route.method == "HEAD" and route.handler in gets
        if contract is not None and route.resource is not None and not is_implied:
            yield DescribedRoute(route.method, route.resource.canonical, route.handler.__name__, contract)


def _describe_operation(route: DescribedRoute, schemas: Schemas) -> Schema:
    contract = route.operation
    described: Schema = {
        "operationId": route.name,
        "summary": contract.summary,
        "tags": [_tag(route.path)],
        "parameters": describe_parameters(route.method, route.path, contract, schemas),
        "responses": describe_responses(route.method, route.path, contract, schemas),
        "security": _security(contract),
    }
    scopes = [str(access) for access in contract.access if isinstance(access, Scope)]
    if scopes:
        described["description"] = f"Needs a key with the scope {' or '.join(scopes)}."
    if body := _request_body(contract, schemas):
        described["requestBody"] = body
    return described


def _tag(path: str) -> str:
    first = path.removeprefix("/v1").split("/")[1]
    return first if first in TAGS or path.startswith("/v1/") else "service"


def _security(contract: Operation) -> list[Schema]:
    if Access.PUBLIC in contract.access or Access.UPLOAD_TOKEN in contract.access:
        return []
    keys: list[Schema] = [{"key": []}] if any(isinstance(access, Scope) for access in contract.access) else []
    return [*keys, {"admin_key": []}] if Access.ADMIN in contract.access else keys


def _request_body(contract: Operation, schemas: Schemas) -> Schema | None:
    content: Schema = {}
    if contract.form is not None:
        fields = schemas.resolved(contract.form)
        texts = {name: without_null(field) for name, field in fields.get("properties", {}).items()}
        example: Any = example_of(fields, schemas, model=contract.form.__name__)
        file = {"type": "string", "minLength": 1, "contentMediaType": "application/octet-stream"}
        content["multipart/form-data"] = {
            "schema": {
                **fields,
                "properties": {FILE_FIELD: file, **texts},
                "required": [FILE_FIELD, *fields.get("required", [])],
                "examples": [{FILE_FIELD: "(the file)", **example}],
            }
        }
    if contract.body is not None:
        content[JSON_TYPE] = {"schema": schemas.of(contract.body)}
    if contract.raw_body is not None:
        # A body without a schema is any bytes.
        content[contract.raw_body] = {}
    return {"content": content, "required": not contract.body_optional} if content else None

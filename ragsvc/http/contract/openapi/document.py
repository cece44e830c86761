"""Builds the OpenAPI document of the whole API."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from ragsvc.domain.workspaces import Scope
from ragsvc.http.auth import Access
from ragsvc.http.contract.multipart import FILE_FIELD
from ragsvc.http.contract.openapi.descriptions import FIELDS, add_descriptions
from ragsvc.http.contract.openapi.examples import add_examples
from ragsvc.http.contract.openapi.naming import name_schemas
from ragsvc.http.contract.openapi.parameters import describe_parameters
from ragsvc.http.contract.openapi.responses import (
    BINARY,
    COMMON,
    JSON_TYPE,
    describe_header,
    describe_problems,
    describe_responses,
    problem_codes,
)
from ragsvc.http.contract.openapi.schemas import Schema, Schemas, collect_schemas, state_defaults, without_null
from ragsvc.http.contract.operations import operation_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import web

    from ragsvc.http.contract.bodies import Body
    from ragsvc.http.contract.operations import Operation

ABOUT = """\
Every response has an `X-Request-Id` header; if the request sends one, it is used in the response and in the log. Errors
are `application/problem+json` (RFC 9457) and are identified by `code`. An id of another workspace gets the same 404 as
an unknown one. Lists are paged by `next_cursor` and ordered newest first, except for messages (oldest first) and chunks
(document order). A POST with an `Idempotency-Key` is safe to retry."""
TAGS = {
    "workspaces": "Tenants and their keys, for operators.",
    "workspace": "The caller's workspace.",
    "collections": "Groups of documents to search.",
    "documents": "Uploaded documents and their ingestion.",
    "bulk-operations": "Progress of operations on many documents.",
    "uploads": "Uploads of large files in parts, which can be retried one by one.",
    "upload-tokens": "Short-lived tokens that let a web page upload directly.",
    "companion": "Uploads with Uppy, as a replacement for its Companion server.",
    "tus": "Resumable uploads with the tus 1.0 protocol.",
    "webhooks": "Notifications of document events to your own URLs.",
    "files": "Stored source files.",
    "deletions": "Deletions, and the proof that they are complete.",
    "search": "Hybrid, dense and lexical search.",
    "chat": "Conversations, and answers with verified citations.",
    "usage": "Token usage of answers and embeddings.",
    "admin": "Queues, dead letters and the audit trail, for operators.",
    "service": "Health checks, metrics and this description.",
}


@dataclass(frozen=True, slots=True)
class DescribedRoute:
    """A route and its declared operation."""

    method: str
    path: str
    name: str
    operation: Operation


def describe(app: web.Application) -> Schema:
    """Return the OpenAPI document of the application's routes."""
    routes = list(_described_routes(app))
    schemas = collect_schemas(route.operation for route in routes)
    add_descriptions(schemas)
    for form in {route.operation.form for route in routes if route.operation.form}:
        _complete_form(form, schemas)
    paths: dict[str, Schema] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _describe_operation(route, schemas)
    problems = describe_problems(problem_codes(route.method, route.path, route.operation) for route in routes)
    add_examples(schemas)
    state_defaults(schemas)
    used = {tag for item in paths.values() for described in item.values() for tag in described["tags"]}
    document = {
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
                "key": {"type": "http", "scheme": "bearer", "description": "A workspace key."},
                "admin_key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The admin key, set as ADMIN_API_KEY on the server.",
                },
            },
        },
    }
    return name_schemas(document)


def _described_routes(app: web.Application) -> Iterator[DescribedRoute]:
    # aiohttp adds a HEAD route for every GET; describe HEAD only if it has a handler of its own.
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
        described["description"] = f"Requires a key with the scope {' or '.join(scopes)}."
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


def _complete_form(form: type[Body], schemas: Schemas) -> None:
    """Add the file to the schema of a form, and make all optional fields absent instead of null."""
    schema = schemas.resolved(form)
    file = {**BINARY, "minLength": 1, "description": FIELDS[FILE_FIELD]}
    texts = {name: without_null(field) for name, field in schema.get("properties", {}).items()}
    schema["properties"] = {FILE_FIELD: file, **texts}
    schema["required"] = [FILE_FIELD, *schema.get("required", [])]


def _request_body(contract: Operation, schemas: Schemas) -> Schema | None:
    content: Schema = {}
    if contract.form is not None:
        content["multipart/form-data"] = {"schema": schemas.of(contract.form)}
    if contract.body is not None:
        content[JSON_TYPE] = {"schema": schemas.of(contract.body)}
    if contract.raw_body is not None:
        content[contract.raw_body] = {"schema": BINARY}
    return {"content": content, "required": not contract.body_optional} if content else None

"""Describes the parameters of an operation: path, query and headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.domain.jobs import Queue
from ragsvc.http.auth import TOKEN_PREFIX
from ragsvc.http.contract.headers import KEY_HEADER, MAX_KEY_CHARS
from ragsvc.http.contract.ids import id_schema
from ragsvc.http.contract.openapi.descriptions import PARAMETERS
from ragsvc.http.contract.openapi.examples import example_of
from ragsvc.http.contract.openapi.schemas import REF, without_null
from ragsvc.http.contract.operations import is_repeatable
from ragsvc.settings.settings import MOST_PARTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ragsvc.domain.ids import Prefix
    from ragsvc.http.contract.openapi.schemas import Schema, Schemas
    from ragsvc.http.contract.operations import HeaderField, Operation

ID_PARAMETERS: dict[str, Prefix] = {
    "workspace_id": "ws",
    "key_id": "key",
    "collection_id": "col",
    "document_id": "doc",
    "file_id": "file",
    "deletion_id": "del",
    "upload_id": "upl",
    "bulk_id": "bulk",
    "webhook_id": "hook",
    "session_id": "chat",
    "run_id": "run",
    # Uppy calls an upload a session.
    "session": "upl",
}
OTHER_PARAMETERS: dict[str, Schema] = {
    "queue": {"$ref": REF.format(model=Queue.__name__)},
    "part_number": {"type": "integer", "minimum": 1, "maximum": MOST_PARTS},
    "upload_token": {"type": "string", "pattern": f"^{TOKEN_PREFIX}[A-Za-z0-9_-]{{43}}$"},
    "id": {"type": "string", "minLength": 1, "maxLength": 128},
    "entry_id": {"type": "string", "pattern": "^(job|doc)_[0-9a-f]{32}(:[0-9]{1,9})?$"},
}


def describe_parameters(method: str, path: str, contract: Operation, schemas: Schemas) -> list[Schema]:
    """Return the parameters of an operation."""
    return [
        *_of_path(path, schemas),
        *_of_query(contract, schemas),
        *([_idempotency_key(schemas)] if is_repeatable(method, path) else []),
        *(_of_header(header, schemas) for header in contract.headers),
    ]


def path_names(path: str) -> list[str]:
    """Return the names of the parameters in a path."""
    return [step.strip("{}") for step in path.split("/") if step.startswith("{")]


def _of_path(path: str, schemas: Schemas) -> Iterator[Schema]:
    for name in path_names(path):
        schema = id_schema(ID_PARAMETERS[name]) if name in ID_PARAMETERS else OTHER_PARAMETERS[name]
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "schema": schema,
            "description": PARAMETERS[name],
            "example": example_of(schema, schemas, name=name),
        }


def _of_query(contract: Operation, schemas: Schemas) -> Iterator[Schema]:
    if contract.query is None:
        return
    schema = schemas.resolved(contract.query)
    for name, nullable in schema.get("properties", {}).items():
        field = without_null(nullable)
        parameter: Schema = {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", []),
            "schema": field,
            "example": example_of(field, schemas, name=name),
        }
        if "description" in field:
            parameter["description"] = field["description"]
        yield parameter


def _idempotency_key(schemas: Schemas) -> Schema:
    schema: Schema = {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_KEY_CHARS,
        "pattern": "^[!-~]([ -~]*[!-~])?$",
    }
    return {
        "name": KEY_HEADER,
        "in": "header",
        "required": False,
        "schema": schema,
        "description": "Makes retries safe: a request repeated within 24 hours gets the stored response.",
        "example": example_of(schema, schemas, name=KEY_HEADER),
    }


def _of_header(header: HeaderField, schemas: Schemas) -> Schema:
    schema = dict(header.schema)
    return {
        "name": header.name,
        "in": "header",
        "required": header.required,
        "schema": schema,
        "description": header.description,
        "example": example_of(schema, schemas, name=header.name),
    }

"""Generates examples from the schemas, with realistic values for known field names."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from ragsvc.errors.base import RagsvcError
from ragsvc.errors.requests import InvalidRequest, PartsMissing
from ragsvc.http.contract.problems import ProblemView, render_problem, request_errors

if TYPE_CHECKING:
    from ragsvc.http.contract.openapi.schemas import Schema, Schemas

REQUEST_ID = "req_0199c1f2a3b47c5d8e6f0a1b2c3d4e5f"
TIME = "2026-01-31T12:00:00.000000Z"
ID = re.compile(r"\^(\w+)_\[0-9a-f\]\{32\}\$")
TEXT = "Kettles boil water. Descale them every three months."
KINDS: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "object": dict,
    "array": list,
    "null": type(None),
}
# Values by field name; `Model.field` takes precedence. Other fields get a value that fits their schema.
VALUES: dict[str, object] = {
    "file": "(the file)",
    "expires_at": "2099-12-31T23:59:59.000000Z",
    "since": "2026-01-31T00:00:00Z",
    "name": "handbook",
    "title": "Kettles",
    "filename": "handbook.pdf",
    "mime_type": "application/pdf",
    "filetype": "application/pdf",
    "type": "application/pdf",
    "size_bytes": 482113,
    "received_bytes": 482113,
    "part_size_bytes": 8388608,
    "max_bytes": 1073741824,
    "quota_bytes": 10737418240,
    "storage_bytes": 482113,
    "sha256": hashlib.sha256(TEXT.encode()).hexdigest(),
    "content_hash": hashlib.sha256(TEXT.encode()).hexdigest(),
    "etag": "9e107d9d372bb6826bd81d3542a419d6",
    "attributes": {"team": "operations", "year": 2026},
    "metadata": {"owner": "operations"},
    "key_prefix": "rag_3fD9aLq1",
    "CreatedKeyView.key": f"rag_{'3fD9aLq1' * 5}Zk8",
    "bucket": "ragsvc-0199c1f2a3b47c5d8e6f0a1b2c3d4e5f",
    "upload_token": f"upt_{'3fD9aLq1' * 5}Zk8",
    "token": f"upt_{'3fD9aLq1' * 5}Zk8",
    "companion_url": f"https://rag.example/companion/upt_{'3fD9aLq1' * 5}Zk8",
    "WebhookBody.url": "https://hooks.example.com/documents",
    "WebhookView.url": "https://hooks.example.com/documents",
    "CreatedWebhookView.url": "https://hooks.example.com/documents",
    "url": "https://rag.example/",
    "location": "https://rag.example/v1/documents/doc_0199c1f2a3b47c5d8e6f0a1b2c3d4e5f",
    "instructions": "Answer in two sentences.",
    "query": "How often are kettles descaled?",
    "content": "How often are kettles descaled?",
    "MessageView.content": "Every three months [1].",
    "text": TEXT,
    "quote": "Descale them every three months.",
    "heading_path": ["Kitchen", "Kettles"],
    "page_first": 3,
    "page_last": 3,
    "char_start": 20,
    "char_end": 52,
    "start": 0,
    "end": 52,
    "length": 52,
    "n": 1,
    "version": 1,
    "ordinal": 0,
    "progress": 1.0,
    "score": 0.0325,
    "min_score": 0.3,
    "dense": 0.71,
    "lexical": 1.0,
    "verdict": "supported",
    "method": "words",
    "verified": True,
    "max_tokens": 240,
    "overlap_tokens": 32,
    "limit": 20,
    "first": "2026-01-01",
    "last": "2026-01-31",
    "day": "2026-01-31",
    "model": "gpt-5-mini",
    "DailyUsageView.runs": 12,
    "DailyUsageView.estimated_runs": 0,
    "DailyUsageView.embedding_calls": 0,
    "DailyUsageView.estimated_embedding_calls": 0,
    "DailyUsageView.prompt_tokens": 18240,
    "DailyUsageView.completion_tokens": 2310,
    "finish_reason": "stop",
    "reason": "the model's server is being moved",
    "code": "parser_timeout",
    "matched": 120,
    "accepted": 118,
    "skipped": 2,
    "dry_run": True,
    "BulkOperationView.status": "completed",
    "chunk_count": 12,
    "part_count": 1,
    "token_count": 2410,
    "DocumentView.status": "ready",
    "RunView.status": "completed",
    "MessageView.status": "completed",
    "MessageView.role": "assistant",
    "DeletionView.status": "completed",
    "stage": None,
    "DocumentWarningView.message": "page 3 has no text",
    "pages": [3],
    "message": "the parser took longer than 300 s",
    "next_attempt_at": None,
    "retained_until": None,
    "next_probe_at": None,
    "error": None,
    "next_cursor": None,
    "store": "chunks",
    "entry_id": "job_0199c1f2a3b47c5d8e6f0a1b2c3d4e5f:1",
    "worker": "ingestion-7f9c:42",
    "kind": "ingest",
    "app_version": "0.1.0",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "Idempotency-Key": "5f0c8f2e-0d0b-4f5e-9a53-6c1d1f0a7b11",
    "Content-MD5": "1B2M2Y8AsgTpgAmY7PhCfg==",
    "Repr-Digest": "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:",
    "Last-Event-ID": "7",
    "Range": "bytes=0-1023",
    "If-Range": '"9e107d9d372bb6826bd81d3542a419d6"',
    "If-None-Match": '"9e107d9d372bb6826bd81d3542a419d6"',
    "Upload-Metadata": "filename aGFuZGJvb2sucGRm",
    "Upload-Checksum": "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
}


def example_of(schema: Schema, schemas: Schemas, *, name: str = "", model: str = "") -> object:
    """Return a value that fits the schema of the field `name` of `model`; both names can be empty."""
    for declared in [schema["const"]] if "const" in schema else schema.get("examples", []):
        return declared
    for value in _named(name, model):
        if _fits(value, schema, schemas):
            return value
    if "$ref" in schema:
        model = str(schema["$ref"]).rpartition("/")[2]
        return example_of(schemas.resolve(schema), schemas, name=name, model=model)
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return example_of(options[0], schemas, name=name, model=model)
    return schema["enum"][0] if "enum" in schema else _make(schema, schemas, name=name, model=model)


def add_examples(schemas: Schemas) -> None:
    """Add an example to every object schema that has none."""
    for name, schema in schemas.components.items():
        if schema.get("type") == "object" and "examples" not in schema and name != ProblemView.__name__:
            schema["examples"] = [example_of(schema, schemas, model=name)]


def example_problem(code: str) -> ProblemView:
    """Return an example problem with this code."""
    return render_problem(_example_error(code), request_id=REQUEST_ID)


def describe_code(code: str) -> str:
    """Return what a problem code means, in a sentence."""
    kind = next((kind for kind in request_errors() if kind.code == code), RagsvcError)
    return (kind.__doc__ or "").splitlines()[0]


def _example_error(code: str) -> RagsvcError:
    match code:
        case InvalidRequest.code:
            return InvalidRequest(fields={"limit": "must be at most 100"})
        case PartsMissing.code:
            return PartsMissing(missing=(2, 3))
    return next((kind() for kind in request_errors() if kind.code == code), RagsvcError())


def _named(name: str, model: str) -> list[object]:
    return [VALUES[key] for key in (f"{model}.{name}", name) if key in VALUES]


def _fits(value: object, schema: Schema, schemas: Schemas) -> bool:
    """Return whether a value has the schema's type; a test checks that VALUES satisfy all other constraints."""
    schema = schemas.resolve(schema)
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return any(_fits(value, {**schema, "anyOf": None, "oneOf": None, **option}, schemas) for option in options)
    if "enum" in schema:
        return value in schema["enum"]
    kind = KINDS.get(schema.get("type", ""))
    return kind is not None and isinstance(value, kind) and not ID.fullmatch(str(schema.get("pattern", "")))


def _make(schema: Schema, schemas: Schemas, *, name: str, model: str) -> object:
    match schema.get("type"):
        case "object":
            return {
                field: example_of(inner, schemas, name=field, model=model)
                for field, inner in schema.get("properties", {}).items()
            }
        case "array":
            return [example_of(schema["items"], schemas, name=name.removesuffix("s"), model=model)]
        case "string":
            return _make_text(schema)
        case "integer" | "number":
            return schema.get("default") or max(schema.get("minimum", 0), 1)
        case "boolean":
            return bool(schema.get("default"))
    return None


def _make_text(schema: Schema) -> str:
    if wanted := ID.fullmatch(str(schema.get("pattern", ""))):
        # A UUIDv7 like real ids, and a different one for each kind.
        return f"{wanted[1]}_0199c1f2a3b47c5d8e6f{hashlib.sha256(wanted[1].encode()).hexdigest()[:12]}"
    if schema.get("format") == "date-time":
        return TIME
    return str(schema.get("default") or "text")

"""Describes the responses of an operation: successes with their headers and events, and all possible problems."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.domain.workspaces import Scope
from ragsvc.errors.base import RagsvcError
from ragsvc.errors.requests import (
    Forbidden,
    IdempotencyMismatch,
    InProgress,
    InvalidJson,
    InvalidRequest,
    NotFound,
    Overloaded,
    ProviderRefused,
    RateLimited,
    RequestError,
    RequestTimeout,
    TooLarge,
    TooManyStreams,
    Unauthorized,
    Unavailable,
    UnknownHost,
    UnsupportedMediaType,
)
from ragsvc.http.auth import Access
from ragsvc.http.contract.headers import REPLAYED_HEADER, REQUEST_ID_HEADER
from ragsvc.http.contract.openapi.examples import describe_code, example_problem
from ragsvc.http.contract.openapi.parameters import path_names
from ragsvc.http.contract.openapi.schemas import REF, Schema
from ragsvc.http.contract.operations import EVENT_STREAM, PROBES, HeaderField, Media, is_repeatable, is_strict
from ragsvc.http.contract.problems import PROBLEMS, RETRY_AFTER_S, ProblemView

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ragsvc.http.contract.openapi.schemas import Schemas
    from ragsvc.http.contract.operations import Operation

REQUEST_ID = HeaderField(REQUEST_ID_HEADER, "The id under which the request is logged.", required=True)
REPLAYED = HeaderField(
    REPLAYED_HEADER,
    "`true` if this is the stored response to an earlier request with the same Idempotency-Key.",
    {"type": "string", "enum": ["true"]},
)
RETRY_AFTER = HeaderField(
    "Retry-After", "Seconds to wait before retrying.", {"type": "integer", "minimum": 0}, required=True
)
AUTHENTICATE = HeaderField(
    "WWW-Authenticate", "The authentication scheme.", {"type": "string", "enum": ["Bearer"]}, required=True
)
_COUNT = {"type": "integer", "minimum": 0}
RATE = (
    HeaderField(
        "RateLimit-Limit", "Requests that a key can send in a burst. Absent if the key has no rate limit.", _COUNT
    ),
    HeaderField("RateLimit-Remaining", "Requests left now.", _COUNT),
    HeaderField("RateLimit-Reset", "Seconds until the full limit is available again.", _COUNT),
)
# Described once in the components, and referenced from the responses.
COMMON = (REQUEST_ID, REPLAYED, *RATE)
# Codes whose responses have a Retry-After header; the value for `rate_limited` depends on the key.
RETRYABLE_CODES = {*RETRY_AFTER_S, RateLimited.code}
PROBLEM_TYPE = "application/problem+json"
JSON_TYPE = "application/json"
# `contentMediaType` is how JSON schema says it, `format` what generators of clients know.
BINARY: Schema = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}


def describe_responses(method: str, path: str, contract: Operation, schemas: Schemas) -> Schema:
    """Return the responses of an operation by status; problems are references to those of `describe_problems`."""
    common = [REQUEST_ID, *(RATE if _is_rated(contract) else ()), *([REPLAYED] if is_repeatable(method, path) else ())]
    responses: Schema = {
        str(status): _describe_success(view, schemas)
        | {"headers": _headers([*common, *contract.response_headers.get(status, ())])}
        for status, view in contract.responses.items()
    }
    for status, codes in problem_codes(method, path, contract).items():
        # No operation uses one status for both a success and a problem.
        if status not in contract.responses:
            responses[str(status)] = {"$ref": f"#/components/responses/{_problem_name(status, codes)}"}
    return responses


def describe_problems(by_status: Iterable[Mapping[int, frozenset[str]]]) -> Schema:
    """Return the description of every distinct problem response, by component name."""
    kinds = {(status, codes) for statuses in by_status for status, codes in statuses.items()}
    return {
        _problem_name(status, codes): _describe_problem(sorted(codes))
        for status, codes in sorted(kinds, key=lambda kind: (kind[0], sorted(kind[1])))
    }


def problem_codes(method: str, path: str, contract: Operation) -> dict[int, frozenset[str]]:
    """Return the problem codes that an operation can return, by status."""
    by_status: dict[int, set[str]] = {}
    for kind in _kinds(method, path, contract):
        by_status.setdefault(PROBLEMS[kind.code].status, set()).add(kind.code)
    return {status: frozenset(codes) for status, codes in sorted(by_status.items())}


def _kinds(method: str, path: str, contract: Operation) -> set[type[RagsvcError]]:
    kinds: set[type[RagsvcError]] = {RagsvcError}
    kinds |= {*contract.problems, *_kinds_of_access(contract)}
    if path not in PROBES:
        kinds |= {Overloaded, Unavailable, UnknownHost}
    if set(path_names(path)) - {"upload_token"}:
        kinds.add(NotFound)
    if contract.query or contract.headers or is_strict(path):
        kinds.add(InvalidRequest)
    if is_repeatable(method, path):
        # A repeat gets NotFound if the resource that the first request created has since been deleted.
        repeated = {InvalidRequest, IdempotencyMismatch, InProgress, NotFound}
        kinds |= repeated | {RequestError, TooLarge}
    kinds |= _kinds_of_body(contract)
    if any(isinstance(view, Media) and view.content_type == EVENT_STREAM for view in contract.responses.values()):
        kinds.add(TooManyStreams)
    return kinds


def _kinds_of_body(contract: Operation) -> set[type[RagsvcError]]:
    kinds: set[type[RagsvcError]] = set()
    if contract.body:
        kinds.add(RequestTimeout)
    if contract.body or contract.form:
        kinds |= {InvalidJson, InvalidRequest, UnsupportedMediaType}
    if contract.body or contract.form or contract.raw_body:
        kinds |= {RequestError, TooLarge}
    return kinds


def _kinds_of_access(contract: Operation) -> set[type[RagsvcError]]:
    if Access.PUBLIC in contract.access:
        return set()
    kinds: set[type[RagsvcError]] = {Unauthorized, Unavailable}
    if _is_rated(contract):
        kinds.add(RateLimited)
    if Access.UPLOAD_TOKEN in contract.access:
        return {*kinds, ProviderRefused}
    if Scope.UPLOAD in contract.access:
        # Uploads call the object store, which can refuse them.
        kinds.add(ProviderRefused)
    return {*kinds, Forbidden}


def _describe_success(view: object, schemas: Schemas) -> Schema:
    if view is None:
        return {"description": "Success."}
    if not isinstance(view, Media):
        return {"description": "Success.", "content": {JSON_TYPE: {"schema": schemas.of(view)}}}
    # JSON comes first, because generated clients use the first type that they know.
    content: Schema = {} if view.json is None else {JSON_TYPE: {"schema": schemas.of(view.json)}}
    for content_type in (view.content_type, *view.other_content_types):
        content[content_type] = {"schema": _schema_of_media(content_type)}
    if view.events:
        content[view.content_type]["x-itemSchema"] = _describe_events(view.events, schemas)
    return {"description": view.description, "content": content}


def _schema_of_media(content_type: str) -> Schema:
    match content_type.partition("/"):
        case _, _, "json":
            return {"type": "object"}
        case "text", _, _:
            return {"type": "string"}
    return BINARY


def _describe_events(events: Mapping[str, type], schemas: Schemas) -> Schema:
    """Return the schema of one event; OpenAPI 3.2 calls it `itemSchema`, and 3.1 can only describe the whole stream."""
    return {
        "oneOf": [
            {
                "type": "object",
                "required": ["event", "data"],
                "properties": {
                    "id": {"type": "string", "pattern": "^[0-9]+$"},
                    "event": {"const": name},
                    "data": {
                        "type": "string",
                        "contentMediaType": JSON_TYPE,
                        "contentSchema": schemas.of(view),
                    },
                },
            }
            for name, view in events.items()
        ]
    }


def _describe_problem(codes: list[str]) -> Schema:
    headers = [REQUEST_ID, *RATE]
    if RETRYABLE_CODES.issuperset(codes):
        headers.append(RETRY_AFTER)
    if codes == [Unauthorized.code]:
        headers.append(AUTHENTICATE)
    return {
        # Generators cannot merge a schema of each response with that of all problems, so the codes are listed here.
        "description": "\n".join(f"- `{code}`: {describe_code(code)}" for code in codes),
        "headers": _headers(headers),
        "content": {
            PROBLEM_TYPE: {
                "schema": {"$ref": REF.format(model=ProblemView.__name__)},
                "examples": {code: {"value": example_problem(code)} for code in codes},
            }
        },
    }


def _problem_name(status: int, codes: frozenset[str]) -> str:
    return ".".join((str(status), *sorted(codes)))


def _is_rated(contract: Operation) -> bool:
    return contract.access not in {(Access.ADMIN,), (Access.PUBLIC,)}


def describe_header(header: HeaderField) -> Schema:
    """Return the description of a response header."""
    return {"description": header.description, "required": header.required, "schema": dict(header.schema)}


def _headers(headers: Iterable[HeaderField]) -> Schema:
    return {
        header.name: {"$ref": f"#/components/headers/{header.name}"} if header in COMMON else describe_header(header)
        for header in headers
    }

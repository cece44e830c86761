"""Requests with another workspace's id, built from the OpenAPI document for every field that takes an id."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ragsvc.http.contract.multipart import FILE_FIELD
from tests.http.support.documents import form

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ID = re.compile(r"[a-z]+_[0-9a-f]{32}")
# Uppy sends this key together with the upload id that it belongs to.
COMPANION_KEY = "key"

FieldPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A request to an operation of the OpenAPI document; `id_field` is where the other workspace's id is inserted."""

    method: str
    path: str
    id_field: FieldPath
    kind: str
    by_token: bool
    parameters: Mapping[tuple[str, str], Any]
    content_type: str | None
    body: Any

    @property
    def route(self) -> str:
        """The operation's method and path."""
        return f"{self.method} {self.path}"

    def options(self, ids: Mapping[str, str], *, foreign_id: str) -> tuple[str, dict[str, Any]]:
        """Return the request's path and options, with the caller's own ids in every other field."""
        whole: dict[str | int, Any] = {"body": copy.deepcopy(self.body)}
        for (where, name), value in self.parameters.items():
            whole.setdefault(where, {})[name] = value
        for id_field, kind in self._id_fields():
            _put(whole, id_field, foreign_id if id_field == self.id_field else ids[kind])
        path = self.path
        for name, value in whole.get("path", {}).items():
            path = path.replace(f"{{{name}}}", str(value))
        headers = {name: str(value) for name, value in whole.get("header", {}).items()}
        return path, {
            "params": whole.get("query", {}),
            "headers": headers,
            **self._body_options(whole["body"], headers),
        }

    def _id_fields(self) -> Iterator[tuple[FieldPath, str]]:
        for (where, name), value in self.parameters.items():
            yield from ((id_field, kind) for id_field, kind in find_ids(value, (where, name)))
        yield from find_ids(self.body, ("body",))

    def _body_options(self, body: Any, headers: dict[str, str]) -> dict[str, Any]:
        match self.content_type:
            case None:
                return {}
            case "application/json":
                return {"json": body}
            case "multipart/form-data":
                fields = {name: value for name, value in body.items() if name != FILE_FIELD and isinstance(value, str)}
                return {"data": form(b"content", **fields)}
        headers["Content-Type"] = self.content_type
        return {"data": b"x"}


def find_ids(value: Any, id_field: FieldPath) -> Iterator[tuple[FieldPath, str]]:
    """Yield the path and the kind of every id in a value."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from find_ids(inner, (*id_field, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from find_ids(inner, (*id_field, index))
    elif isinstance(value, str) and ID.fullmatch(value):
        yield id_field, value.partition("_")[0]


def calls_of(document: dict[str, Any]) -> Iterator[Call]:
    """Yield one call for each field, in each operation, that takes the id of a workspace's resource."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            by_token = "{upload_token}" in path
            if operation["security"] in ([], [{"admin_key": []}]) and not by_token:
                continue
            parameters = _parameters_of(operation)
            for content_type, body in _bodies_of(document, operation):
                id_fields = [
                    *(found for (where, name), value in parameters.items() for found in find_ids(value, (where, name))),
                    *find_ids(body, ("body",)),
                ]
                for id_field, kind in id_fields:
                    # For an id outside the body, one of the body types is enough.
                    if id_field[0] != "body" and content_type not in {None, _first_type(operation)}:
                        continue
                    yield Call(method.upper(), path, id_field, kind, by_token, parameters, content_type, body)


def _parameters_of(operation: dict[str, Any]) -> dict[tuple[str, str], Any]:
    return {
        (parameter["in"], parameter["name"]): parameter["example"]
        for parameter in operation["parameters"]
        if parameter["required"] or (parameter["in"] == "query" and list(find_ids(parameter["example"], ())))
    }


def _first_type(operation: dict[str, Any]) -> str | None:
    return next(iter(operation.get("requestBody", {}).get("content", {})), None)


def _bodies_of(document: dict[str, Any], operation: dict[str, Any]) -> Iterator[tuple[str | None, Any]]:
    content = operation.get("requestBody", {}).get("content")
    if not content:
        yield None, None
        return
    for content_type, described in content.items():
        yield content_type, _example_of(document, described.get("schema", {}))


def _example_of(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema["examples"][0] if "examples" in schema else None


def _put(whole: dict[str | int, Any], id_field: FieldPath, value: str) -> None:
    *steps, last = id_field
    inner: Any = whole
    for step in steps:
        inner = inner[step]
    inner[last] = value

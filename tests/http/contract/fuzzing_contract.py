"""Checks every response of an application against its OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jsonschema_rs
import orjson
from aiohttp import web

from ragsvc.http.contract.openapi.document import describe
from ragsvc.http.middleware import CLIENT_LEFT

if TYPE_CHECKING:
    from collections.abc import Iterator

# Statuses for requests that match no operation: unknown paths, wrong methods, invalid HTTP.
UNDESCRIBED = {400, 401, 403, 404, 405, 408, 413, 417, 429, 431}
PREFLIGHT = "Access-Control-Request-Method"
OVERRIDE = "X-HTTP-Method-Override"


class Contract:
    """Collects the responses of watched applications that differ from their OpenAPI documents."""

    def __init__(self) -> None:
        self._breaches: list[str] = []
        self._documents: list[Document] = []

    def watch(self, app: web.Application) -> None:
        """Check every response of the application, just before its headers are sent."""
        document = describe(app)
        if not document["paths"]:
            # The application serves no routes of the API.
            return
        described = Document(document)

        async def check(request: web.Request, response: web.StreamResponse) -> None:
            self._breaches += (
                f"{request.method} {request.path}: {what}" for what in described.breaches(request, response)
            )

        app.on_response_prepare.append(check)

    def take_breaches(self) -> list[str]:
        """Return the differences found since the last call."""
        taken, self._breaches = self._breaches, []
        return taken


class Document:
    """An OpenAPI document, applied strictly: responses must not have undescribed fields."""

    def __init__(self, described: dict[str, Any]) -> None:
        self._paths = described["paths"]
        self._components = described["components"]
        self._strict = {name: _close(schema) for name, schema in self._components["schemas"].items()}
        self._validators: dict[bytes, Any] = {}

    def breaches(self, request: web.Request, response: web.StreamResponse) -> Iterator[str]:
        """Yield the differences between a response and its description."""
        resource = request.match_info.route.resource
        if response.status == CLIENT_LEFT or PREFLIGHT in request.headers:
            # CLIENT_LEFT is never sent, and preflights are not part of the API.
            return
        if OVERRIDE in request.headers and request.method != "POST":
            # tus allows the method override on any request, but the document describes it only for POST.
            return
        item = self._paths.get(resource.canonical, {}) if resource is not None else {}
        operation = item.get(request.method.lower()) or (item.get("get") if request.method == "HEAD" else None)
        status = response.status
        if operation is None:
            if status not in UNDESCRIBED:
                yield f"{status} without an operation"
            return
        described = operation["responses"].get(str(status))
        if described is None:
            yield f"{status} is not described: {_body_of(response)[:200]!r}"
            return
        if "$ref" in described:
            described = self._components["responses"][described["$ref"].rpartition("/")[2]]
        yield from self._header_breaches(described, response)
        if request.method != "HEAD":
            yield from self._body_breaches(described.get("content", {}), response)

    def _header_breaches(self, described: dict[str, Any], response: web.StreamResponse) -> Iterator[str]:
        for name, inline in described.get("headers", {}).items():
            header = self._components["headers"][name] if "$ref" in inline else inline
            value = response.headers.get(name)
            if value is None:
                if header.get("required"):
                    yield f"{response.status} without {name}"
                continue
            parsed = int(value) if header["schema"].get("type") == "integer" and value.isdecimal() else value
            yield from self._mismatches(header["schema"], parsed, what=name)

    def _body_breaches(self, content: dict[str, Any], response: web.StreamResponse) -> Iterator[str]:
        body = _body_of(response)
        if not content:
            if body:
                yield f"{response.status} with a body"
            return
        kind = response.headers.get("Content-Type", "").partition(";")[0]
        if kind not in content:
            # Files are sent with their own media type.
            if "application/octet-stream" not in content:
                yield f"{response.status} as {kind}, not {list(content)}"
        elif kind.endswith("json") and isinstance(response, web.Response):
            # A stream's body does not exist yet.
            value = orjson.loads(body)
            yield from self._mismatches(content[kind]["schema"], value, what=str(response.status))
            # The codes of a problem are described by its examples.
            if kind == "application/problem+json" and value["code"] not in content[kind]["examples"]:
                yield f"{response.status} with the code {value['code']}"

    def _mismatches(self, schema: dict[str, Any], value: object, *, what: str) -> Iterator[str]:
        key = orjson.dumps(schema)
        if key not in self._validators:
            whole = {**_close(schema), "components": {"schemas": self._strict}}
            self._validators[key] = jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
        for error in self._validators[key].iter_errors(value):
            yield f"{what}: {error.instance_path} {error.message}"


def _body_of(response: web.StreamResponse) -> bytes:
    body = response.body if isinstance(response, web.Response) else b""
    return body if isinstance(body, bytes) else b""


def _close(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_close(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _close(inner) for name, inner in schema.items()}
    if closed.get("type") == "object" and "properties" in closed:
        closed.setdefault("additionalProperties", False)
    return closed

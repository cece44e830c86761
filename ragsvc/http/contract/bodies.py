"""Strict models of JSON bodies and query strings, and the functions that read them."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, TypeVar

import orjson
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import from_json

from ragsvc.errors.requests import InvalidJson, InvalidRequest, UnsupportedMediaType
from ragsvc.http.contract.fields import explain_fields, find_deepest, refuse_nul

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiohttp import web
    from pydantic import JsonValue
    from pydantic.config import JsonDict

MAX_ATTRIBUTES = 16
MAX_ATTRIBUTE_KEY_CHARS = 64
MAX_ATTRIBUTE_VALUE_CHARS = 512
MAX_NAME_CHARS = 200
MAX_METADATA_BYTES = 16 * 1024
_INT64 = range(-(2**63), 2**63)
_ESCAPED_NUL = b"\\u0000"


class Body(BaseModel):
    """A JSON body; unknown fields are refused, and values are not coerced to another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Query(BaseModel):
    """A query string; unknown parameters are refused, and values are parsed from text."""

    model_config = ConfigDict(extra="forbid", frozen=True)


AnyBody = TypeVar("AnyBody", bound=Body)
AnyQuery = TypeVar("AnyQuery", bound=Query)


async def read_body(request: web.Request, model: type[AnyBody], *, optional: bool = False) -> AnyBody:
    """Return the request's JSON body; with `optional`, a missing body counts as an empty object.

    Raises:
        UnsupportedMediaType: the content type is not `application/json`.
        InvalidJson: the body is not JSON.
        InvalidRequest: the body does not match the model.
    """
    raw = await request.read()
    if optional and not raw:
        return parse_body(b"{}", model)
    if request.content_type != "application/json":
        raise UnsupportedMediaType("Send the body with Content-Type: application/json.")
    return parse_body(raw, model)


def parse_body(raw: bytes, model: type[AnyBody]) -> AnyBody:
    """Parse JSON text into the model; raises like `read_body`."""
    # Let orjson check the syntax, because pydantic's parser also accepts NaN and Infinity.
    value = _parse_strictly(raw)
    if _ESCAPED_NUL in raw:
        refuse_nul(value)
    try:
        # Validate the text, because strict mode accepts strings as dates and enums only in JSON, not in parsed values.
        return model.model_validate_json(raw)
    except ValidationError as error:
        # Parse again, only to word the error.
        raise InvalidRequest(fields=explain_fields(error, parse_json(raw), model)) from None


def read_query(request: web.Request, model: type[AnyQuery]) -> AnyQuery:
    """Return the request's query string.

    Raises:
        InvalidRequest: a parameter is unknown, repeated or invalid.
    """
    repeated = {name for name in request.query if len(request.query.getall(name)) > 1}
    if repeated:
        raise InvalidRequest(fields=dict.fromkeys(sorted(repeated), "must not be given more than once"))
    values = dict(request.query)
    refuse_nul(values)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InvalidRequest(fields=explain_fields(error, values, model)) from None


def parse_json(raw: bytes, *, field: str | None = None) -> object:
    """Parse the JSON text of a body, or of the form field `field`.

    Raises:
        InvalidJson: the text is not JSON.
        InvalidRequest: the JSON is nested too deeply.
    """
    value = _parse_strictly(raw)
    try:
        # Parse as pydantic does, because orjson would round integers beyond 64 bits, which must be refused later.
        return from_json(raw)
    except ValueError:
        raise InvalidRequest(fields={field or find_deepest(value): "is nested too deeply"}) from None


def _parse_strictly(raw: bytes) -> object:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidJson(f"The body is not valid JSON: {error}") from None


def selection_rule(selectors: Sequence[str]) -> JsonDict:
    """Return the schema of the rule that a body has either `all` or some of the selectors.

    It is written with `if`, because generators of clients would make a type of each branch of a `oneOf`.
    """
    some: list[JsonValue] = [
        {"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in selectors
    ]
    return {
        "if": {"required": ["all"], "properties": {"all": {"const": True}}},
        "then": {"properties": {name: {"type": "null"} for name in selectors}},
        "else": {"anyOf": some},
    }


def check_attributes(attributes: Mapping[str, object]) -> dict[str, object]:
    """Return a document's attributes; raises ValueError, naming the attribute, if they exceed the limits."""
    if len(attributes) > MAX_ATTRIBUTES:
        raise ValueError(f"has {len(attributes)} attributes, at most {MAX_ATTRIBUTES} are allowed")
    for key, value in attributes.items():
        check_attribute_key(key)
        check_attribute_value(value, name=key)
    return dict(attributes)


def check_attribute_key(key: str) -> str:
    """Return an attribute's key; raises ValueError unless it has 1 to 64 characters."""
    if not 1 <= len(key) <= MAX_ATTRIBUTE_KEY_CHARS:
        raise ValueError(f"an attribute's key must have 1 to {MAX_ATTRIBUTE_KEY_CHARS} characters")
    return key


def check_attribute_value(value: object, *, name: str = "value") -> str | int | float | bool:
    """Return an attribute's value; raises ValueError unless it is a valid string, boolean or number.

    Numbers must be finite, and integers must fit into 64 bits, so that JSON and Postgres both preserve them.
    """
    match value:
        case bool():
            return value
        case str() if len(value) <= MAX_ATTRIBUTE_VALUE_CHARS:
            return value
        case int() if value in _INT64:
            return value
        case float() if math.isfinite(value):
            return value
        case str():
            raise ValueError(f"{name} is longer than {MAX_ATTRIBUTE_VALUE_CHARS} characters")
        case int() | float():
            raise ValueError(f"{name} is out of range for a number")
        case _:
            raise ValueError(f"{name} must be a string, a number or a boolean")


def _check_metadata(metadata: dict[str, object]) -> dict[str, object]:
    try:
        size_bytes = len(orjson.dumps(metadata))
    except TypeError:
        raise ValueError("contains a number out of range, or is nested too deeply") from None
    if size_bytes > MAX_METADATA_BYTES:
        raise ValueError(f"has {size_bytes} bytes as JSON, at most {MAX_METADATA_BYTES} are allowed")
    return metadata


_ATTRIBUTES_SCHEMA = {
    "type": "object",
    "maxProperties": MAX_ATTRIBUTES,
    "propertyNames": {"minLength": 1, "maxLength": MAX_ATTRIBUTE_KEY_CHARS},
    "additionalProperties": {
        "anyOf": [
            {"type": "string", "maxLength": MAX_ATTRIBUTE_VALUE_CHARS},
            {"type": "number"},
            {"type": "boolean"},
        ]
    },
}

_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d\S*", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def _read_time(value: object) -> datetime:
    # By default, pydantic also accepts numbers, which it reads as seconds or milliseconds since 1970.
    with suppress(ValueError):
        if isinstance(value, str) and _TIME.fullmatch(value):
            return datetime.fromisoformat(value.upper())
    raise ValueError("must be a time like 2026-01-31T12:00:00Z")


def _read_day(value: object) -> date:
    with suppress(ValueError):
        if isinstance(value, str) and _DAY.fullmatch(value):
            return date.fromisoformat(value)
    raise ValueError("must be a date like 2026-01-31")


Time = Annotated[AwareDatetime, BeforeValidator(_read_time)]
Day = Annotated[date, BeforeValidator(_read_day)]
Attributes = Annotated[dict[str, object], AfterValidator(check_attributes), WithJsonSchema(_ATTRIBUTES_SCHEMA)]
Metadata = Annotated[dict[str, object], AfterValidator(_check_metadata), WithJsonSchema({"type": "object"})]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]

"""Invalid bodies are refused with the invalid field and the reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from pydantic import AwareDatetime

from ragsvc.domain.workspaces import Scope
from ragsvc.errors.requests import InvalidJson, InvalidRequest, NotFound
from ragsvc.http.contract.bodies import Attributes, Body, Metadata, parse_body
from ragsvc.http.contract.ids import CollectionId
from ragsvc.http.v1.search import SearchBody


class SampleBody(Body):
    """A body with one field of each type."""

    count: int = 0
    name: str = ""
    scope: Scope = Scope.READ
    moment: AwareDatetime | None = None
    collection_id: CollectionId | None = None
    attributes: Attributes | None = None
    metadata: Metadata | None = None


def refused(raw: str) -> dict[str, str]:
    """Return the messages for a refused body, by field."""
    with pytest.raises(InvalidRequest) as caught:
        parse_body(raw.encode(), SampleBody)
    return caught.value.fields


def test_a_valid_body_is_parsed() -> None:
    raw = b'{"count": 3, "scope": "chat", "moment": "2030-01-01T00:00:00Z", "attributes": {"a": 1, "b": true}}'
    body = parse_body(raw, SampleBody)
    assert body.count == 3
    assert body.scope is Scope.CHAT
    assert body.moment == datetime(2030, 1, 1, tzinfo=UTC)
    assert body.attributes == {"a": 1, "b": True}


@pytest.mark.parametrize("raw", ["", "{", "nul", '{"name": NaN}', '{"name": "\\ud800"}', "[" * 5000, '{"a": 1,}'])
def test_invalid_json_is_distinguished_from_an_invalid_field(raw: str) -> None:
    with pytest.raises(InvalidJson):
        parse_body(raw.encode(), SampleBody)


@pytest.mark.parametrize("raw", ["[]", "null", "3", '"text"'])
def test_json_other_than_an_object_is_refused(raw: str) -> None:
    assert list(refused(raw)) == ["body"]


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ('{"unknown": 1}', "unknown"),
        ('{"count": "3"}', "count"),
        ('{"count": 3.5}', "count"),
        ('{"count": true}', "count"),
        ('{"name": 3}', "name"),
        ('{"name": null}', "name"),
        ('{"scope": "admin"}', "scope"),
        ('{"moment": "2030-01-01"}', "moment"),
        ('{"moment": "2030-01-01T00:00:00"}', "moment"),
        ('{"moment": 1893456000}', "moment"),
        ('{"collection_id": "nonsense"}', "collection_id"),
        ('{"collection_id": 7}', "collection_id"),
        ('{"attributes": []}', "attributes"),
        ('{"attributes": {"a": null}}', "attributes"),
        ('{"attributes": {"a": [1]}}', "attributes"),
        ('{"attributes": {"a": {"b": 1}}}', "attributes"),
        ('{"attributes": {"": 1}}', "attributes"),
        ('{"attributes": {"a": 18446744073709551616}}', "attributes"),
        ('{"metadata": {"a": 184467440737095516160}}', "metadata"),
        ('{"metadata": 1}', "metadata"),
    ],
)
def test_an_invalid_field_is_named(raw: str, field: str) -> None:
    assert list(refused(raw)) == [field]


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ('{"name": "a\\u0000b"}', "name"),
        ('{"attributes": {"a": "\\u0000"}}', "attributes.a"),
        ('{"attributes": {"\\u0000": 1}}', "attributes"),
        ('{"attributes": {"\\u0000": "\\u0000"}}', "attributes"),
        ('{"metadata": {"list": ["", ["\\u0000"]]}}', "metadata.list.1.0"),
        ('"\\u0000"', "body"),
    ],
)
def test_a_nul_character_is_refused_at_any_depth(raw: str, field: str) -> None:
    assert list(refused(raw)) == [field]


@pytest.mark.parametrize(
    ("condition", "field"),
    [
        ({"type": "eq", "key": "a", "value": None}, "filters.value"),
        ({"type": "eq", "key": "a"}, "filters.value"),
        ({"type": "eq", "key": "a", "value": 1, "values": 1}, "filters.values"),
        ({"type": "and", "filters": [{"type": "in", "key": "a", "value": ["x", {}]}]}, "filters.filters.0.value.1"),
        ({"type": "is", "key": "a", "value": 1}, "filters"),
    ],
)
def test_a_field_is_named_once_and_by_its_path_in_the_request(condition: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_body(json.dumps({"query": "x", "filters": condition}).encode(), SearchBody)
    assert list(caught.value.fields) == [field]


def test_the_error_lists_all_allowed_types() -> None:
    body = {"query": "x", "filters": {"type": "eq", "key": "a", "value": None}}
    with pytest.raises(InvalidRequest) as caught:
        parse_body(json.dumps(body).encode(), SearchBody)
    assert list(caught.value.fields.values()) == ["must be a string, an integer, a number or true or false"]


@pytest.mark.parametrize(("depth", "field"), [(150, "metadata"), (500, "metadata")])
def test_json_that_is_nested_too_deeply_is_an_invalid_field_and_not_invalid_json(depth: int, field: str) -> None:
    raw = '{"name": "x", "metadata": {"a": ' + '{"b": [' * depth + "]}" * depth + "}}"
    assert refused(raw) == {field: "is nested too deeply"}


def test_an_escaped_backslash_is_not_a_nul_character() -> None:
    assert parse_body(b'{"name": "a\\\\u0000"}', SampleBody).name == "a\\u0000"


@pytest.mark.parametrize(
    ("attributes", "accepted"),
    [
        ('{"' + "k" * 64 + '": 1}', True),
        ('{"' + "k" * 65 + '": 1}', False),
        ('{"a": "' + "v" * 512 + '"}', True),
        ('{"a": "' + "v" * 513 + '"}', False),
        ("{" + ", ".join(f'"k{n}": {n}' for n in range(16)) + "}", True),
        ("{" + ", ".join(f'"k{n}": {n}' for n in range(17)) + "}", False),
        ('{"a": 9223372036854775807, "b": -1.5e300}', True),
    ],
)
def test_attributes_over_their_limits_are_refused(attributes: str, accepted: bool) -> None:  # noqa: FBT001
    raw = f'{{"attributes": {attributes}}}'
    if accepted:
        assert parse_body(raw.encode(), SampleBody).attributes
    else:
        assert list(refused(raw)) == ["attributes"]


def test_metadata_over_its_limit_is_refused() -> None:
    assert "16384" in refused('{"metadata": {"a": "' + "x" * 16_400 + '"}}')["metadata"]


def test_an_unknown_collection_is_not_found_rather_than_invalid() -> None:
    with pytest.raises(NotFound):
        parse_body(b'{"collection_id": "col_of_nobody"}', SampleBody)

"""Messages about invalid fields are worded for people who do not know pydantic."""

from __future__ import annotations

import pytest

from ragsvc.errors.requests import InvalidRequest
from ragsvc.http.contract.bodies import parse_body
from ragsvc.http.v1.search import SearchBody


def refused(raw: str) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        parse_body(raw.encode(), SearchBody)
    return caught.value.fields


@pytest.mark.parametrize(
    ("name", "meant"),
    [("top_k", "limit"), ("limits", "limit"), ("filter", "filters"), ("collection_id", "collection_ids")],
)
def test_an_unknown_field_names_the_one_that_is_meant(name: str, meant: str) -> None:
    message = refused(f'{{"query": "x", "{name}": 3}}')[name]
    assert f"did you mean `{meant}`?" in message
    assert all(field in message for field in SearchBody.model_fields)


def test_an_unknown_field_lists_the_allowed_ones() -> None:
    message = refused('{"query": "x", "zzz": 1}')["zzz"]
    assert "did you mean" not in message
    assert "allowed: collection_ids, " in message


def test_the_fields_of_a_nested_object_are_suggested_there() -> None:
    raw = '{"query": "x", "filters": {"type": "and", "filters": [{"type": "eq", "key": "a", "value": 1, "keys": 1}]}}'
    assert refused(raw) == {
        "filters.filters.0.keys": "is not a known field; did you mean `key`? (allowed: key, type, value)"
    }


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ('"query": ""', "must have at least 1 characters"),
        ('"query": " "', "must not be blank"),
        ('"query": 1', "must be a string"),
        ('"query": "x", "limit": 0', "must be at least 1"),
        ('"query": "x", "limit": 101', "must be at most 100"),
        ('"query": "x", "limit": "3"', "must be an integer"),
        ('"query": "x", "mode": "magic"', "must be 'hybrid', 'dense' or 'lexical'"),
        ('"query": "x", "collection_ids": []', "must have at least 1 items"),
        ('"limit": 3', "is missing"),
    ],
)
def test_a_message_says_what_is_allowed(fields: str, message: str) -> None:
    assert message in refused(f"{{{fields}}}").values()


def test_a_filter_without_a_known_type_lists_the_types() -> None:
    assert "needs a 'type': 'eq', 'ne'" in refused('{"query": "x", "filters": {}}')["filters"]
    message = refused('{"query": "x", "filters": {"type": "like", "key": "a", "value": "b"}}')["filters"]
    assert message.startswith("has the unknown 'type' 'like'; allowed: 'eq', 'ne'")


@pytest.mark.parametrize(
    "raw",
    [
        "[]",
        '"x"',
        '{"query": null}',
        '{"query": "x", "filters": []}',
        '{"query": "x", "filters": {"type": "in", "key": "a", "value": 3}}',
        '{"query": "x", "filters": {"type": "eq", "key": 3, "value": {}}}',
        '{"query": "x", "min_score": "high"}',
        '{"query": "x", "fold_duplicates": "yes"}',
        '{"query": "x", "collection_ids": "all"}',
        '{"query": "x", "surprise": {}}',
    ],
)
def test_no_message_is_pydantics(raw: str) -> None:
    text = " ".join(refused(raw).values())
    assert text
    for word in ("Input", "Extra inputs", "Unable", "discriminator", "valid dictionary", "Field required", "{"):
        assert word not in text

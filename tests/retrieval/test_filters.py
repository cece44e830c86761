"""Tests of the filter language against an oracle and with hostile input."""

from __future__ import annotations

import operator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragsvc.errors.requests import InvalidRequest
from ragsvc.retrieval.filters import (
    Comparator,
    Comparison,
    Compound,
    Filter,
    Junction,
    Listing,
    Membership,
    compile_filter,
    dump_filter,
    load_filter,
)

if TYPE_CHECKING:
    from ragsvc.db.connections.pool import Pool

MATCH = """
SELECT ($2::jsonb IS NULL OR attributes @> $2)
   AND ($3::text IS NULL OR jsonb_path_match(attributes, $3::text::jsonpath, $4::jsonb))
FROM unnest($1::jsonb[]) WITH ORDINALITY AS given (attributes, position) ORDER BY position
"""
ORDERS = {
    Comparator.GT: operator.gt,
    Comparator.GTE: operator.ge,
    Comparator.LT: operator.lt,
    Comparator.LTE: operator.le,
}

# There are few keys and values, so that they often coincide. Some would break out of SQL that is built from strings.
keys = st.sampled_from(["lang", "year", "a b", 'a"b', "a\\", "$.x", "'; DROP TABLE documents; --", "ключ", "\x1f", "@"])
texts = st.sampled_from(
    ["", "en", "de", "1", "true", '"', "\\", "') OR 1=1 --", "$v0", "日本", "😀", "\x7f"]
) | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
numbers = st.sampled_from([0, 1, -1, 2024, 1.0, 1.5, 0.1, 1e300, -1e-300, 2**53, 2**63 - 1]) | st.integers(-5, 5)
values = texts | numbers | st.booleans()
ordered = texts | numbers
attribute_sets = st.dictionaries(keys, values, max_size=6)

equalities = st.builds(Comparison, st.sampled_from([Comparator.EQ, Comparator.NE]), keys, values)
orderings = st.builds(Comparison, st.sampled_from(list(ORDERS)), keys, ordered)
listings = st.builds(Listing, st.sampled_from(Membership), keys, st.lists(values, min_size=1, max_size=4).map(tuple))
filters: st.SearchStrategy[Filter] = st.recursive(
    equalities | orderings | listings,
    lambda inner: st.builds(Compound, st.sampled_from(Junction), st.lists(inner, min_size=1, max_size=3).map(tuple)),
    max_leaves=8,
)


def is_satisfied(condition: Filter, attributes: dict[str, Any]) -> bool:  # noqa: PLR0911 - one return for each kind
    """Return whether the attributes satisfy the filter, evaluated in Python."""
    match condition:
        case Compound(Junction.AND, parts):
            return all(is_satisfied(part, attributes) for part in parts)
        case Compound(Junction.OR, parts):
            return any(is_satisfied(part, attributes) for part in parts)
        case Listing(Membership.IN, key, listed):
            return any(are_equal(attributes.get(key), value) for value in listed)
        case Listing(Membership.NIN, key, listed):
            return not any(are_equal(attributes.get(key), value) for value in listed)
        case Comparison(Comparator.EQ, key, value):
            return are_equal(attributes.get(key), value)
        case Comparison(Comparator.NE, key, value):
            return not are_equal(attributes.get(key), value)
        case Comparison(kind, key, value):
            found = attributes.get(key)
            return kind_of(found) == kind_of(value) and ORDERS[kind](comparable(found), comparable(value))
    raise AssertionError(condition)


def are_equal(found: Any, value: Any) -> bool:
    """Compare by type and value, numbers by their JSON representation."""
    return kind_of(found) == kind_of(value) and comparable(found) == comparable(value)


def kind_of(value: Any) -> str:
    """Return the JSON type."""
    if value is None or isinstance(value, bool):
        return type(value).__name__
    return "string" if isinstance(value, str) else "number"


def comparable(value: Any) -> Any:
    """Return a number as the Decimal of its JSON representation, and any other value unchanged."""
    return value if isinstance(value, (str, bool)) else Decimal(orjson.dumps(value).decode())


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(condition=filters, attributes=st.lists(attribute_sets, min_size=1, max_size=20))
async def test_the_database_agrees_with_the_oracle(
    pool: Pool, condition: Filter, attributes: list[dict[str, Any]]
) -> None:
    compiled = compile_filter(condition)
    async with pool.acquire() as conn:
        rows = await conn.fetch(MATCH, attributes, compiled.contains, compiled.path, compiled.variables)
    assert [row[0] for row in rows] == [is_satisfied(condition, given) for given in attributes]


@given(condition=filters)
def test_a_stored_filter_is_the_same_filter(condition: Filter) -> None:
    assert load_filter(dump_filter(condition)) == condition


def test_values_are_never_part_of_the_path() -> None:
    compiled = compile_filter(Comparison(Comparator.GT, "k", "')) OR true --"))
    assert compiled.path == 'exists($."k" ? (@ > $v0))'
    assert compiled.variables == {"v0": "')) OR true --"}


def test_required_equality_is_checked_by_containment() -> None:
    both = (Comparison(Comparator.EQ, "a", 1), Comparison(Comparator.EQ, "a", 2))
    compiled = compile_filter(Compound(Junction.AND, both))
    assert compiled.contains == {"a": 1}
    assert compiled.path == 'exists($."a" ? (@ == $v0))'


LEAF = Comparison(Comparator.NE, "k", 1)


def nested(depth: int) -> Filter:
    """Return a filter of `depth` levels."""
    condition: Filter = LEAF
    for _ in range(depth - 1):
        condition = Compound(Junction.AND, (condition,))
    return condition


def test_at_most_eight_levels_and_64_conditions_are_allowed() -> None:
    compile_filter(nested(8))
    compile_filter(Compound(Junction.OR, (LEAF,) * 64))
    with pytest.raises(InvalidRequest, match="deeper"):
        compile_filter(nested(9))
    with pytest.raises(InvalidRequest, match="more than 64"):
        compile_filter(Compound(Junction.OR, (LEAF,) * 65))


@pytest.mark.parametrize(
    "condition",
    [
        Comparison(Comparator.GT, "k", value=True),
        Comparison(Comparator.EQ, "k", "a\0b"),
        Comparison(Comparator.EQ, "k\0", "a"),
        Compound(Junction.AND, ()),
        Listing(Membership.IN, "k", tuple(range(257))),
    ],
)
def test_an_invalid_filter_is_rejected(condition: Filter) -> None:
    with pytest.raises(InvalidRequest):
        compile_filter(condition)

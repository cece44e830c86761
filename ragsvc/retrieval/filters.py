"""The filter language for document attributes, and its translation for the database.

A comparison is false if the attribute is absent or of a different type. `ne` and `nin` negate `eq` and `in`, so they
are true in that case. Numbers compare by value, strings by code point, and booleans only for equality.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias, assert_never

import orjson

from ragsvc.db.search.scope import AttributeCondition
from ragsvc.errors.requests import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH = 8
MAX_CONDITIONS = 64
MAX_LISTED_VALUES = 256

Value: TypeAlias = str | int | float | bool


class Comparator(StrEnum):
    """How an attribute is compared with one value."""

    EQ = "eq"
    NE = "ne"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"


class Membership(StrEnum):
    """Whether an attribute is one of some values."""

    IN = "in"
    NIN = "nin"


class Junction(StrEnum):
    """How filters are joined."""

    AND = "and"
    OR = "or"


@dataclass(frozen=True, slots=True)
class Comparison:
    """An attribute compared with a value."""

    type: Comparator
    key: str
    value: Value


@dataclass(frozen=True, slots=True)
class Listing:
    """An attribute that is, or is not, one of the values."""

    type: Membership
    key: str
    value: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Compound:
    """All or any of the filters."""

    type: Junction
    filters: tuple[Filter, ...]


Filter: TypeAlias = Comparison | Listing | Compound

_OPERATORS = {
    Comparator.EQ: "==",
    Comparator.NE: "==",
    Comparator.GT: ">",
    Comparator.GTE: ">=",
    Comparator.LT: "<",
    Comparator.LTE: "<=",
}
_JUNCTIONS = {Junction.AND: " && ", Junction.OR: " || "}


def compile_filter(condition: Filter | None) -> AttributeCondition:
    """Return the filter for the database: a jsonpath with quoted keys, in which every value is a variable.

    Equality conditions that every match must meet become a containment check instead, which is cheaper.

    Raises:
        InvalidRequest: as for `check_filter`.
    """
    if condition is None:
        return AttributeCondition()
    check_filter(condition)
    contains: dict[str, object] = {}
    rest = []
    for part in _split_and(condition):
        if isinstance(part, Comparison) and part.type is Comparator.EQ and part.key not in contains:
            contains[part.key] = part.value
        else:
            rest.append(part)
    writer = _PathWriter()
    path = " && ".join(writer.write(part) for part in rest)
    return AttributeCondition(contains=contains or None, path=path or None, variables=writer.variables)


def check_filter(condition: Filter) -> None:
    """Reject a filter that is too large or invalid.

    Raises:
        InvalidRequest: the reason is given for the field `filters`.
    """
    conditions = 0
    for part, depth in _walk(condition):
        if depth > MAX_DEPTH:
            raise InvalidRequest(fields={"filters": f"is nested deeper than {MAX_DEPTH} levels"})
        if isinstance(part, Compound):
            if not part.filters:
                raise InvalidRequest(fields={"filters": f"`{part.type}` needs at least one filter"})
            continue
        conditions += 1
        if conditions > MAX_CONDITIONS:
            raise InvalidRequest(fields={"filters": f"has more than {MAX_CONDITIONS} conditions"})
        _check_condition(part)


def dump_filter(condition: Filter) -> dict[str, object]:
    """Return the filter as JSON, in the form that clients send."""
    dumped: dict[str, object] = orjson.loads(orjson.dumps(condition))
    return dumped


def load_filter(stored: dict[str, Any]) -> Filter:
    """Return the filter that `dump_filter` dumped."""
    kind = stored["type"]
    if kind in set(Junction):
        return Compound(Junction(kind), tuple(load_filter(part) for part in stored["filters"]))
    if kind in set(Membership):
        return Listing(Membership(kind), stored["key"], tuple(stored["value"]))
    return Comparison(Comparator(kind), stored["key"], stored["value"])


def _split_and(condition: Filter) -> tuple[Filter, ...]:
    if isinstance(condition, Compound) and condition.type is Junction.AND:
        return condition.filters
    return (condition,)


def _walk(condition: Filter) -> Iterator[tuple[Filter, int]]:
    pending = [(condition, 1)]
    while pending:
        part, depth = pending.pop()
        yield part, depth
        if isinstance(part, Compound):
            pending.extend((inner, depth + 1) for inner in part.filters)


def _check_condition(condition: Comparison | Listing) -> None:
    values = condition.value if isinstance(condition, Listing) else (condition.value,)
    if len(values) > MAX_LISTED_VALUES:
        raise InvalidRequest(fields={"filters": f"`{condition.type}` lists more than {MAX_LISTED_VALUES} values"})
    if any("\0" in text for text in (condition.key, *values) if isinstance(text, str)):
        raise InvalidRequest(fields={"filters": "must not contain a NUL character"})
    ordered = condition.type not in {Comparator.EQ, Comparator.NE, Membership.IN, Membership.NIN}
    if ordered and isinstance(condition.value, bool):
        raise InvalidRequest(fields={"filters": f"`{condition.type}` needs a number or a string"})


class _PathWriter:
    """Writes a jsonpath predicate. Comparisons are in filter expressions, because those are false if types differ."""

    def __init__(self) -> None:
        self.variables: dict[str, object] = {}

    def write(self, condition: Filter) -> str:
        match condition:
            case Compound():
                return "(" + _JUNCTIONS[condition.type].join(self.write(part) for part in condition.filters) + ")"
            case Comparison():
                found = self._write_exists(condition.key, _OPERATORS[condition.type], (condition.value,))
                return f"!{found}" if condition.type is Comparator.NE else found
            case Listing():
                found = self._write_exists(condition.key, "==", condition.value)
                return f"!{found}" if condition.type is Membership.NIN else found
            case _:
                assert_never(condition)

    def _write_exists(self, key: str, operator: str, values: tuple[Value, ...]) -> str:
        if not values:
            return "(1 == 0)"
        # JSON string syntax is also jsonpath string syntax, so any key can be quoted this way.
        quoted = orjson.dumps(key).decode()
        return f"exists($.{quoted} ? ({' || '.join(f'@ {operator} {self._bind(value)}' for value in values)}))"

    def _bind(self, value: Value) -> str:
        name = f"v{len(self.variables)}"
        self.variables[name] = value
        return f"${name}"

"""Request models of the filter language."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field

from ragsvc.http.contract.bodies import MAX_ATTRIBUTE_KEY_CHARS, Body, check_attribute_value
from ragsvc.retrieval import filters

if TYPE_CHECKING:
    from ragsvc.retrieval.filters import Filter

Key = Annotated[str, Field(min_length=1, max_length=MAX_ATTRIBUTE_KEY_CHARS)]
Value = Annotated[str | int | float | bool, AfterValidator(check_attribute_value)]


class ComparisonFilter(Body):
    """Compares an attribute with a value; if the attribute is missing or of another type, only `ne` is true."""

    type: Literal["eq", "ne", "gt", "gte", "lt", "lte"]
    key: Key
    value: Value


class MembershipFilter(Body):
    """Matches documents whose attribute is, or is not, one of the values."""

    type: Literal["in", "nin"]
    key: Key
    value: Annotated[list[Value], Field(min_length=1, max_length=filters.MAX_LISTED_VALUES)]


class CompoundFilter(Body):
    """Combines filters with `and` or `or`; at most 64 conditions, nested at most 8 levels deep."""

    type: Literal["and", "or"]
    filters: Annotated[list[FilterBody], Field(min_length=1, max_length=filters.MAX_CONDITIONS)]


FilterBody = Annotated[ComparisonFilter | MembershipFilter | CompoundFilter, Field(discriminator="type")]
CompoundFilter.model_rebuild()


def read_filter(body: ComparisonFilter | MembershipFilter | CompoundFilter | None) -> Filter | None:
    """Convert the filter of a request.

    Raises:
        InvalidRequest: the filter is too large, or compares values that cannot be compared.
    """
    if body is None:
        return None
    converted = _convert(body)
    filters.check_filter(converted)
    return converted


def _convert(body: Any) -> Filter:  # noqa: ANN401 - one of the three models above, which are recursive
    if isinstance(body, CompoundFilter):
        return filters.Compound(filters.Junction(body.type), tuple(_convert(part) for part in body.filters))
    if isinstance(body, MembershipFilter):
        return filters.Listing(filters.Membership(body.type), body.key, tuple(body.value))
    return filters.Comparison(filters.Comparator(body.type), body.key, body.value)

"""The filter language as clients send it."""

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
    """An attribute compared with a value; false where the attribute is absent or of another type, but for `ne`."""

    type: Literal["eq", "ne", "gt", "gte", "lt", "lte"]
    key: Key
    value: Value


class MembershipFilter(Body):
    """An attribute that is, or is not, one of some values."""

    type: Literal["in", "nin"]
    key: Key
    value: Annotated[list[Value], Field(min_length=1, max_length=filters.MAX_LISTED_VALUES)]


class CompoundFilter(Body):
    """All or any of some filters; at most 64 conditions, nested at most 8 deep."""

    type: Literal["and", "or"]
    filters: Annotated[list[FilterBody], Field(min_length=1, max_length=filters.MAX_CONDITIONS)]


FilterBody = Annotated[ComparisonFilter | MembershipFilter | CompoundFilter, Field(discriminator="type")]
CompoundFilter.model_rebuild()


def read_filter(body: ComparisonFilter | MembershipFilter | CompoundFilter | None) -> Filter | None:
    """Return the filter.

    Raises:
        InvalidRequest: it is too large or has no meaning.
    """
    if body is None:
        return None
    read = _convert(body)
    filters.check_filter(read)
    return read


def _convert(body: Any) -> Filter:  # noqa: ANN401 - one of the three above, which refer to one another
    if isinstance(body, CompoundFilter):
        return filters.Compound(filters.Junction(body.type), tuple(_convert(part) for part in body.filters))
    if isinstance(body, MembershipFilter):
        return filters.Listing(filters.Membership(body.type), body.key, tuple(body.value))
    return filters.Comparison(filters.Comparator(body.type), body.key, body.value)

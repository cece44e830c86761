"""Pages of lists: limits, opaque cursors, and the page envelope."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence  # noqa: TC003 - pydantic reads the annotations
from datetime import UTC, datetime, timedelta
from typing import Annotated, Generic, Protocol, TypeAlias, TypeVar
from uuid import UUID

from pydantic import BeforeValidator, Field, WithJsonSchema
from typing_extensions import TypedDict

from ragsvc.http.contract.bodies import Query

MAX_LIMIT = 100
DEFAULT_LIMIT = 20
_UUID_BYTES = 16
_ORDINAL_BYTES = 5
_MICROSECONDS_BYTES = 8
_MOMENT_BYTES = _MICROSECONDS_BYTES + _UUID_BYTES
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC)

# A time, and the id of one of the rows with that time.
Moment: TypeAlias = tuple[datetime, UUID]

Row = TypeVar("Row")
View = TypeVar("View")


class HasId(Protocol):
    """A row of a list that is ordered by id."""

    @property
    def id(self) -> UUID:
        """A UUIDv7, which sorts by time."""


IdRow = TypeVar("IdRow", bound=HasId)


class Page(TypedDict, Generic[View]):
    """One page of a list; `next_cursor` is null on the last page."""

    data: list[View]
    next_cursor: str | None


def encode_cursor(position: UUID | int | Moment) -> str:
    """Return the cursor for the rows after a position: an id, an ordinal, or a time and an id."""
    match position:
        case UUID():
            raw = position.bytes
        case int():
            raw = position.to_bytes(_ORDINAL_BYTES, "big")
        case moment, row_id:
            since = (moment - _EPOCH) // timedelta(microseconds=1)
            raw = since.to_bytes(_MICROSECONDS_BYTES, "big") + row_id.bytes
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode_moment(text: object) -> Moment:
    raw = _decode(text, _MOMENT_BYTES)
    since = timedelta(microseconds=int.from_bytes(raw[:_MICROSECONDS_BYTES], "big"))
    return _EPOCH + min(since, _LAST - _EPOCH), UUID(bytes=raw[_MICROSECONDS_BYTES:])


def _decode(text: object, size: int) -> bytes:
    if isinstance(text, str) and text.isascii():
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except binascii.Error:
            raw = b""
        if len(raw) == size:
            return raw
    raise ValueError("is not a cursor of this list")


def _cursor_schema(example: UUID | int | Moment, size: int) -> WithJsonSchema:
    chars = -(-size * 8 // 6)
    return WithJsonSchema(
        {
            "type": "string",
            "pattern": f"^[A-Za-z0-9_-]{{{chars}}}$",
            "description": "The `next_cursor` of the previous page.",
            "examples": [encode_cursor(example)],
        }
    )


IdCursor = Annotated[
    UUID,
    BeforeValidator(lambda text: UUID(bytes=_decode(text, _UUID_BYTES))),
    _cursor_schema(UUID(int=1), _UUID_BYTES),
]
OrdinalCursor = Annotated[
    int,
    BeforeValidator(lambda text: int.from_bytes(_decode(text, _ORDINAL_BYTES), "big")),
    _cursor_schema(20, _ORDINAL_BYTES),
]
MomentCursor = Annotated[Moment, BeforeValidator(_decode_moment), _cursor_schema((_EPOCH, UUID(int=1)), _MOMENT_BYTES)]


class LimitQuery(Query):
    """The size of a page."""

    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT, description="Maximum number of items on the page.")] = DEFAULT_LIMIT


class PageQuery(LimitQuery):
    """A page of a list that is ordered by id."""

    cursor: IdCursor | None = None


def page_by_id(rows: Sequence[IdRow], limit: int, render: Callable[[IdRow], View]) -> Page[View]:
    """Return the first `limit` rows as a page; fetch `limit + 1` rows to detect whether more follow."""
    return page_by(rows, limit, render, position=lambda row: row.id)


def page_by(
    rows: Sequence[Row], limit: int, render: Callable[[Row], View], *, position: Callable[[Row], UUID | int | Moment]
) -> Page[View]:
    """Return a page as `page_by_id` does, but for rows that are ordered by `position`."""
    shown = rows[:limit]
    more = len(rows) > limit
    return {"data": [render(row) for row in shown], "next_cursor": encode_cursor(position(shown[-1])) if more else None}

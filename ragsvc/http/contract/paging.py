"""Pages of lists: how many, from where on, and the opaque cursor to the next."""

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

# A moment, and which of the rows of that moment.
Moment: TypeAlias = tuple[datetime, UUID]

Row = TypeVar("Row")
View = TypeVar("View")


class HasId(Protocol):
    """A row that lists are ordered by."""

    @property
    def id(self) -> UUID:
        """Its UUIDv7, which orders by time."""


IdRow = TypeVar("IdRow", bound=HasId)


class Page(TypedDict, Generic[View]):
    """One page of a list; `next_cursor` is null on the last."""

    data: list[View]
    next_cursor: str | None


def encode_cursor(position: UUID | int | Moment) -> str:
    """Return the cursor to what follows a row: its id, its ordinal, or its moment and its id."""
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
            "description": "The `next_cursor` of the page before.",
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
    """How many rows a page has."""

    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT, description="Rows of the page.")] = DEFAULT_LIMIT


class PageQuery(LimitQuery):
    """Which page of a list that is ordered by id."""

    cursor: IdCursor | None = None


def page_by_id(rows: Sequence[IdRow], limit: int, render: Callable[[IdRow], View]) -> Page[View]:
    """Return the first `limit` of the rows as a page; the caller fetched `limit + 1` to see whether there are more."""
    return page_by(rows, limit, render, position=lambda row: row.id)


def page_by(
    rows: Sequence[Row], limit: int, render: Callable[[Row], View], *, position: Callable[[Row], UUID | int | Moment]
) -> Page[View]:
    """Return a page like `page_by_id` of rows that are ordered by something else."""
    shown = rows[:limit]
    more = len(rows) > limit
    return {"data": [render(row) for row in shown], "next_cursor": encode_cursor(position(shown[-1])) if more else None}

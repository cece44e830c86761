"""Bounds what a filter costs: the number of values times the number of documents that they are compared with."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ragsvc.db.search.scope import count_filtered
from ragsvc.errors.requests import InvalidRequest, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection
    from ragsvc.db.search.scope import Selection

# Postgres makes about 50 to 100 million comparisons a second.
MAX_COMPARISONS = 50_000_000
# A filter with fewer values costs little more than reading the documents; its time is limited all the same.
CHEAP_VALUES = 16


async def check_filter_cost(conn: Connection, workspace_id: UUID, selection: Selection) -> None:
    """Refuse a filter that compares too many values with too many documents.

    Raises:
        InvalidRequest: the reason is given for the field `filters`.
        Unavailable: the documents could not be counted in time.
    """
    values = len(selection.attributes.variables or {})
    if values <= CHEAP_VALUES:
        return
    most = MAX_COMPARISONS // values
    with explaining_timeouts():
        count = await count_filtered(conn, workspace_id, selection, limit=most + 1)
    if count > most:
        reason = f"compares {values} values with more than {most} documents: list fewer values, or add an `eq`"
        raise InvalidRequest(fields={"filters": reason})


@contextmanager
def explaining_timeouts() -> Iterator[None]:
    """Turn the time limit of a filter or a search into an error that the client understands."""
    try:
        yield
    except TimeoutError:
        raise Unavailable("The search took too long: narrow it or its filter, or try again.") from None

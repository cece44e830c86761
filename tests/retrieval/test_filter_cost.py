"""What a filter costs is bounded, by its values and documents and by its time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ragsvc.bulk.requests import count_selected
from ragsvc.errors.requests import InvalidRequest, Unavailable
from ragsvc.retrieval.filters import Comparator, Comparison, Compound, Junction, Listing, Membership
from ragsvc.retrieval.search import search
from tests.support.servers.databases import owner_of

if TYPE_CHECKING:
    from ragsvc.domain.search import SearchHit
    from ragsvc.retrieval.filters import Filter
    from tests.support.documents.library import Library

TEXT = "Kettles boil water."
VALUES = 20
LISTED = Listing(Membership.IN, "number", tuple(range(VALUES)))


async def find(library: Library, filters: Filter) -> list[SearchHit]:
    """Search the library."""
    return list((await search(library.resources, library.workspace_id, query=TEXT, filters=filters)).hits)


async def test_many_values_over_many_documents_are_refused(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ragsvc.retrieval.filter_cost.MAX_COMPARISONS", 3 * VALUES)
    for number in range(3):
        await library.add(f"{TEXT} {number}", attributes={"number": number, "kind": "a" if number else "b"})
    assert len(await find(library, LISTED)) == 3
    await library.add(TEXT, attributes={"number": 3, "kind": "b"})
    with pytest.raises(InvalidRequest, match="compares 20 values with more than 3 documents"):
        await find(library, LISTED)
    with pytest.raises(InvalidRequest, match="filters"):
        await count_selected(library.resources, library.workspace_id, filters=LISTED)
    # Few values are compared with any number of documents, and only with those that an equality leaves.
    assert len(await find(library, Listing(Membership.IN, "number", (1, 2)))) == 2
    narrowed = Compound(Junction.AND, (Comparison(Comparator.EQ, "kind", "a"), LISTED))
    assert len(await find(library, narrowed)) == 2


async def test_a_filter_that_takes_too_long_is_reported(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    await library.add(TEXT, attributes={"number": 1})
    async with owner_of(library.resources.settings) as blocker, blocker.transaction():
        await blocker.execute("LOCK TABLE documents IN ACCESS EXCLUSIVE MODE")
        monkeypatch.setattr("ragsvc.db.search.scope.FILTER_TIMEOUT_S", 0.3)
        for filters in (LISTED, Comparison(Comparator.GT, "number", 0)):
            with pytest.raises(Unavailable, match="filter"):
                await find(library, filters)
    assert len(await find(library, LISTED)) == 1

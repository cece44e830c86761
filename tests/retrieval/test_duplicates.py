"""Equal chunks are one hit, which names the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ragsvc.domain.search import SearchMode
from ragsvc.retrieval.search import search

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.domain.search import SearchHit
    from tests.support.documents.library import Library

KETTLES = "Descale the kettle every three months."
QUERY = "descale the kettle"


async def find(library: Library, *, mode: SearchMode, limit: int = 10, folds: bool = True) -> list[SearchHit]:
    found = await search(
        library.resources, library.workspace_id, query=QUERY, mode=mode, limit=limit, folds_duplicates=folds
    )
    return found.hits


async def add_copies(library: Library, count: int) -> list[UUID]:
    return [await library.add(KETTLES, filename=f"copy-{number}.md") for number in range(count)]


@pytest.mark.parametrize("is_small", [True, False])
@pytest.mark.parametrize("mode", SearchMode)
async def test_equal_chunks_are_one_hit_that_names_the_others(
    library: Library, monkeypatch: pytest.MonkeyPatch, mode: SearchMode, *, is_small: bool
) -> None:
    monkeypatch.setattr("ragsvc.retrieval.search.EXACT_SCAN_MAX_CHUNKS", 10_000 if is_small else 0)
    first, *others = await add_copies(library, 4)
    await library.add("The kettle boils water.")
    hits = await find(library, mode=mode)
    assert [hit.text for hit in hits] == [KETTLES, "The kettle boils water."]
    assert hits[0].document_id == first
    assert {duplicate.document_id for duplicate in hits[0].duplicates} == set(others)
    assert {duplicate.filename for duplicate in hits[0].duplicates} == {f"copy-{number}.md" for number in (1, 2, 3)}
    assert hits[1].duplicates == ()


@pytest.mark.parametrize("mode", SearchMode)
async def test_folding_can_be_turned_off(library: Library, mode: SearchMode) -> None:
    copies = await add_copies(library, 3)
    hits = await find(library, mode=mode, folds=False)
    assert {hit.document_id for hit in hits} == set(copies)
    assert all(hit.duplicates == () for hit in hits)


@pytest.mark.parametrize("mode", SearchMode)
async def test_many_copies_do_not_crowd_out_other_texts(
    library: Library, monkeypatch: pytest.MonkeyPatch, mode: SearchMode
) -> None:
    monkeypatch.setattr("ragsvc.retrieval.search.FETCHED", 5)
    await add_copies(library, 12)
    await library.add("The kettle boils water.")
    hits = await find(library, mode=mode, limit=2)
    assert [hit.text for hit in hits] == [KETTLES, "The kettle boils water."]


async def test_chunks_under_different_headings_are_not_equal(library: Library) -> None:
    for heading in ("Home", "Office"):
        document_id = await library.add(KETTLES, heading_path=(heading,))
        async with library.resources.pool.acquire() as conn:
            # The hash of what is embedded, which begins with the headings.
            await conn.execute(
                "UPDATE chunk_text SET embedding_input_hash = sha256($2::bytea) WHERE document_id = $1",
                document_id,
                heading.encode(),
            )
    assert len(await find(library, mode=SearchMode.HYBRID)) == 2


async def test_documents_being_deleted_are_not_named(library: Library) -> None:
    first, second, third = await add_copies(library, 3)
    await library.begin_deleting(first)
    await library.begin_deleting(third)
    (hit,) = await find(library, mode=SearchMode.HYBRID)
    assert (hit.document_id, hit.duplicates) == (second, ())

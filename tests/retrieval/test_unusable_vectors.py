"""Stored vectors that cannot be compared neither lead a search nor hide a chunk from lexical search."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from ragsvc.domain.search import SearchMode
from ragsvc.retrieval.search import search

if TYPE_CHECKING:
    from ragsvc.domain.search import SearchHit
    from tests.support.documents.library import Library

KETTLES = "Descale the kettle every three months with citric acid."
BOILERPLATE = "This message and its attachments are confidential."
QUERY = "how are kettles and a kettle descaled?"


async def find(library: Library, query: str, mode: SearchMode) -> list[SearchHit]:
    """Search the library."""
    return (await search(library.resources, library.workspace_id, query=query, mode=mode)).hits


async def spoil(library: Library, change: str) -> None:
    """Change the vectors of the boilerplate with a statement that ends after `WHERE`."""
    async with library.resources.pool.acquire() as conn:
        statement = change.format(table=library.resources.space.table)
        of_boilerplate = "chunk_id IN (SELECT id FROM chunk_text WHERE content = $1)"
        await conn.execute(f"{statement} WHERE {of_boilerplate}", BOILERPLATE)


@pytest.mark.parametrize("is_small", [True, False])
@pytest.mark.parametrize(
    "change", ["UPDATE {table} SET embedding = embedding - embedding", "DELETE FROM {table}"], ids=["zero", "missing"]
)
async def test_a_chunk_without_a_usable_vector_counts_with_its_words_alone(
    library: Library, monkeypatch: pytest.MonkeyPatch, change: str, *, is_small: bool
) -> None:
    monkeypatch.setattr("ragsvc.retrieval.search.EXACT_SCAN_MAX_CHUNKS", 10_000 if is_small else 0)
    await library.add(KETTLES, BOILERPLATE)
    await spoil(library, change)
    for mode in SearchMode:
        hits = await find(library, QUERY, mode)
        assert hits[0].text == KETTLES
        assert BOILERPLATE not in [hit.text for hit in hits]
        assert all(math.isfinite(hit.score) for hit in hits)
    assert await find(library, BOILERPLATE, SearchMode.DENSE) != []
    for mode in (SearchMode.LEXICAL, SearchMode.HYBRID):
        found = {hit.text: hit for hit in await find(library, BOILERPLATE, mode)}
        assert found[BOILERPLATE].dense_score is None
        assert found[BOILERPLATE].lexical_score is not None
        assert math.isfinite(found[BOILERPLATE].score)


async def test_a_minimum_score_excludes_a_chunk_without_a_usable_vector(library: Library) -> None:
    await library.add(KETTLES, BOILERPLATE)
    await spoil(library, "UPDATE {table} SET embedding = embedding - embedding")
    for mode in SearchMode:
        found = await search(
            library.resources, library.workspace_id, query=f"{BOILERPLATE} {KETTLES}", mode=mode, min_score=0.0
        )
        assert [hit.text for hit in found.hits] == [KETTLES]

"""Search: what is found, in which order, and what never is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ragsvc.answering.filters import Comparator, Comparison, Filter, Listing, Membership
from ragsvc.answering.retrieval import search
from ragsvc.errors import NotFound, TransientFailure
from ragsvc.models.ids import new_id
from ragsvc.models.search import SearchMode
from tests.answering.library import Library, cut
from tests.support.model_server import Fail
from tests.support.workspaces import create_workspace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ragsvc.db.pool import Pool
    from ragsvc.models.search import SearchHit
    from ragsvc.settings import Settings
    from ragsvc.storage.store import Storage
    from tests.support.model_server import ScriptedModels

KETTLES = "Descale the kettle every three months with citric acid."
PARCELS = "Parcels arrive within three days."
REFUNDS = "A refund takes fourteen days."


async def find(
    library: Library,
    query: str = "descale the kettle",
    *,
    mode: SearchMode = SearchMode.HYBRID,
    collection_ids: Sequence[UUID] | None = None,
    filters: Filter | None = None,
    limit: int = 10,
    min_score: float | None = None,
) -> list[SearchHit]:
    """Search the library."""
    return await search(
        library.resources,
        library.workspace_id,
        query=query,
        mode=mode,
        collection_ids=collection_ids,
        filters=filters,
        limit=limit,
        min_score=min_score,
    )


def scanning(library: Library, *, is_small: bool) -> Library:
    """Return the library as searched by the statements for small or for large scopes."""
    settings = library.resources.settings.model_copy(update={"exact_scan_max_chunks": 10_000 if is_small else 0})
    from dataclasses import replace  # noqa: PLC0415

    return replace(library, resources=replace(library.resources, settings=settings))


@pytest.mark.parametrize("is_small", [True, False])
@pytest.mark.parametrize("mode", SearchMode)
async def test_the_best_chunk_comes_first_in_every_mode(library: Library, mode: SearchMode, *, is_small: bool) -> None:
    document_id = await library.add(PARCELS, KETTLES, REFUNDS, filename="a.md", heading_path=("House",), has_pages=True)
    first = (await find(scanning(library, is_small=is_small), mode=mode))[0]
    assert (first.text, first.document_id, first.filename) == (KETTLES, document_id, "a.md")
    assert (first.version, first.ordinal, first.heading_path) == (1, 1, ("House",))
    assert (first.page_first, first.page_last) == (2, 2)
    start = len(PARCELS) + 2
    assert (first.char_start, first.char_end) == (start, start + len(KETTLES))


async def test_scores_tell_what_each_index_gave(library: Library) -> None:
    await library.add(KETTLES, PARCELS)
    hits = {mode: await find(library, mode=mode) for mode in SearchMode}
    dense, lexical, hybrid = hits[SearchMode.DENSE], hits[SearchMode.LEXICAL], hits[SearchMode.HYBRID]
    assert [hit.text for hit in dense] == [KETTLES, PARCELS]
    assert dense[0].score == dense[0].dense_score
    assert dense[0].lexical_score is None
    assert [hit.text for hit in lexical] == [KETTLES]
    assert lexical[0].score == lexical[0].lexical_score
    assert 0 < lexical[0].score < 1
    assert [hit.text for hit in hybrid] == [KETTLES, PARCELS]
    assert hybrid[0].dense_score == dense[0].dense_score
    assert hybrid[0].lexical_score == lexical[0].lexical_score
    assert hybrid[0].score == pytest.approx(dense[0].score + 0.5 * lexical[0].score)
    assert hybrid[1].lexical_score is None
    assert hybrid[1].score == hybrid[1].dense_score


async def test_some_of_the_words_are_enough_for_the_lexical_index(library: Library) -> None:
    await library.add(KETTLES, PARCELS, REFUNDS)
    hits = await find(library, "What does the manual say about citric kettles?", mode=SearchMode.LEXICAL)
    assert [hit.text for hit in hits] == [KETTLES]
    assert 0 < hits[0].score < 1


@pytest.mark.parametrize(
    "query", ["the of and", "'; DROP TABLE chunk_text; --", "a\\'b & | ! ( :* <->", "zzz", "[1] %s {table}"]
)
@pytest.mark.parametrize("mode", SearchMode)
async def test_any_text_is_a_query(library: Library, query: str, mode: SearchMode) -> None:
    await library.add(KETTLES)
    assert len(await find(library, query, mode=mode)) == (0 if mode is SearchMode.LEXICAL else 1)


@pytest.mark.parametrize("mode", SearchMode)
async def test_min_score_is_a_cosine_in_every_mode(library: Library, mode: SearchMode) -> None:
    await library.add(KETTLES, f"{PARCELS} {REFUNDS} And there is a kettle.")
    everything = await find(library, mode=mode)
    assert len(everything) == 2
    best = max(hit.dense_score or 0.0 for hit in await find(library, mode=SearchMode.DENSE))
    hits = await find(library, mode=mode, min_score=best - 0.01)
    assert [hit.text for hit in hits] == [KETTLES]
    assert hits[0].dense_score == pytest.approx(best)
    assert await find(library, mode=mode, min_score=min(best + 0.01, 1.0)) == []


@pytest.mark.parametrize("is_small", [True, False])
@pytest.mark.parametrize("mode", SearchMode)
async def test_collections_and_attributes_narrow_a_search(
    library: Library, mode: SearchMode, *, is_small: bool
) -> None:
    other = await library.add_collection("other")
    await library.add(KETTLES, attributes={"lang": "en", "year": 2020})
    await library.add(KETTLES, collection_id=other, attributes={"lang": "de", "year": 2024})
    searched = scanning(library, is_small=is_small)

    async def langs(**scope: object) -> list[str]:
        hits = await find(searched, mode=mode, **scope)  # type: ignore[arg-type]
        return sorted(str(hit.attributes["lang"]) for hit in hits)

    assert await langs() == ["de", "en"]
    assert await langs(collection_ids=[other]) == ["de"]
    assert await langs(collection_ids=[other, await library.default_collection()]) == ["de", "en"]
    assert await langs(filters=Comparison(Comparator.EQ, "lang", "en")) == ["en"]
    assert await langs(filters=Comparison(Comparator.GT, "year", 2021)) == ["de"]
    assert await langs(filters=Listing(Membership.NIN, "lang", ("en", "de"))) == []
    assert await langs(collection_ids=[other], filters=Comparison(Comparator.EQ, "lang", "en")) == []


async def test_a_collection_of_nobody_is_not_found(library: Library) -> None:
    await library.add(KETTLES)
    with pytest.raises(NotFound):
        await find(library, collection_ids=[await library.default_collection(), new_id()])


@pytest.mark.parametrize("is_small", [True, False])
@pytest.mark.parametrize("mode", SearchMode)
async def test_a_workspace_never_sees_another(
    library: Library, pool: Pool, storage: Storage, settings: Settings, mode: SearchMode, *, is_small: bool
) -> None:
    stranger = Library(library.resources, (await create_workspace(pool, storage, settings)).id)
    theirs = await stranger.add(KETTLES)
    ours = await library.add(KETTLES, PARCELS)
    assert {hit.document_id for hit in await find(scanning(library, is_small=is_small), mode=mode)} == {ours}
    assert {hit.document_id for hit in await find(scanning(stranger, is_small=is_small), mode=mode)} == {theirs}
    with pytest.raises(NotFound):
        await find(library, mode=mode, collection_ids=[await stranger.default_collection()])


@pytest.mark.parametrize("is_small", [True, False])
@pytest.mark.parametrize("mode", SearchMode)
async def test_only_the_active_build_of_a_live_document_is_found(
    library: Library, mode: SearchMode, *, is_small: bool
) -> None:
    document_id = await library.add(KETTLES)
    deleted_id = await library.add(KETTLES)
    renewed = ["Descale the kettle twice a year."]
    await library.build(document_id, renewed, cut(renewed))
    await library.begin_deleting(deleted_id)
    hits = await find(scanning(library, is_small=is_small), mode=mode)
    assert [(hit.text, hit.version) for hit in hits] == [("Descale the kettle twice a year.", 2)]


@pytest.mark.parametrize("is_small", [True, False])
@pytest.mark.parametrize("mode", SearchMode)
async def test_a_collection_that_is_being_deleted_holds_nothing(
    library: Library, mode: SearchMode, *, is_small: bool
) -> None:
    doomed = await library.add_collection("doomed")
    await library.add(KETTLES, collection_id=doomed)
    kept = await library.add(KETTLES)
    async with library.resources.pool.acquire() as conn:
        await conn.execute("UPDATE collections SET deletion_id = $2 WHERE id = $1", doomed, new_id())
    hits = await find(scanning(library, is_small=is_small), mode=mode)
    assert {hit.document_id for hit in hits} == {kept}
    with pytest.raises(NotFound):
        await find(library, mode=mode, collection_ids=[doomed])


async def test_an_empty_scope_costs_no_embedding(library: Library, scripted_models: ScriptedModels) -> None:
    assert await find(library) == []
    await library.add(KETTLES)
    asked = len(scripted_models.embeddings.requests)
    assert await find(library, "kettle", mode=SearchMode.LEXICAL) != []
    assert len(scripted_models.embeddings.requests) == asked


async def test_without_its_model_only_words_are_found(library: Library, scripted_models: ScriptedModels) -> None:
    await library.add(KETTLES)
    scripted_models.embeddings.usual = Fail(503)
    with pytest.raises(TransientFailure):
        await find(library, "a new query about kettles")
    assert len(await find(library, "a new query about kettles", mode=SearchMode.LEXICAL)) == 1


async def test_as_many_hits_as_asked_for(library: Library) -> None:
    await library.add(*(f"Kettle number {number} boils." for number in range(130)))
    for limit in (1, 7, 100):
        hits = await find(library, "kettle boils", limit=limit)
        assert len(hits) == limit
        assert len({hit.chunk_id for hit in hits}) == limit
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

"""Tests of search: what is found, in which order, and what must not be found."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import pytest

from ragsvc.domain.ids import new_id
from ragsvc.domain.search import SearchMode
from ragsvc.errors.requests import NotFound, Unavailable
from ragsvc.errors.work import TransientFailure
from ragsvc.retrieval.filters import Comparator, Comparison, Filter, Listing, Membership
from ragsvc.retrieval.search import search
from tests.support.documents.library import Library, cut
from tests.support.servers.databases import owner_of
from tests.support.servers.model_server import Fail
from tests.support.workspaces import create_workspace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ragsvc.db.connections.pool import Pool
    from ragsvc.domain.search import SearchHit
    from ragsvc.settings.settings import Settings
    from ragsvc.storage.store import Storage
    from tests.support.servers.model_server import ScriptedModels

KETTLES = "Descale the kettle every three months with citric acid."
PARCELS = "Parcels arrive within three days."
REFUNDS = "A refund takes fourteen days."


class Scan(Protocol):
    """Chooses which SQL statements searches use."""

    def __call__(self, *, is_small: bool) -> None: ...


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
    found = await search(
        library.resources,
        library.workspace_id,
        query=query,
        mode=mode,
        collection_ids=collection_ids,
        filters=filters,
        limit=limit,
        min_score=min_score,
    )
    return found.hits


@pytest.fixture
def scan(monkeypatch: pytest.MonkeyPatch) -> Scan:
    """Choose the SQL statements for small or large scopes."""

    def choose(*, is_small: bool) -> None:
        monkeypatch.setattr("ragsvc.retrieval.search.EXACT_SCAN_MAX_CHUNKS", 10_000 if is_small else 0)

    return choose


@pytest.mark.parametrize("is_small", [True, False])
@pytest.mark.parametrize("mode", SearchMode)
async def test_the_best_chunk_comes_first_in_every_mode(
    library: Library, scan: Scan, mode: SearchMode, *, is_small: bool
) -> None:
    document_id = await library.add(PARCELS, KETTLES, REFUNDS, filename="a.md", heading_path=("House",), has_pages=True)
    scan(is_small=is_small)
    first = (await find(library, mode=mode))[0]
    assert (first.text, first.document_id, first.filename) == (KETTLES, document_id, "a.md")
    assert (first.version, first.ordinal, first.heading_path) == (1, 1, ("House",))
    assert (first.page_first, first.page_last) == (2, 2)
    start = len(PARCELS) + 2
    assert (first.char_start, first.char_end) == (start, start + len(KETTLES))


async def test_hits_have_the_scores_of_each_index(library: Library) -> None:
    await library.add(KETTLES, PARCELS)
    hits = {mode: await find(library, mode=mode) for mode in SearchMode}
    weight = library.resources.settings.answering.lexical_weight
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
    assert hybrid[0].score == pytest.approx(dense[0].score + weight * lexical[0].score)
    assert hybrid[1].lexical_score is None
    assert hybrid[1].score == hybrid[1].dense_score


async def test_lexical_search_matches_some_of_the_words(library: Library) -> None:
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
    library: Library, scan: Scan, mode: SearchMode, *, is_small: bool
) -> None:
    other = await library.add_collection("other")
    await library.add(KETTLES, attributes={"lang": "en", "year": 2020})
    await library.add(f"{KETTLES} Bitte.", collection_id=other, attributes={"lang": "de", "year": 2024})
    scan(is_small=is_small)

    async def langs(**scope: object) -> list[str]:
        hits = await find(library, mode=mode, **scope)  # type: ignore[arg-type]
        return sorted(str(hit.attributes["lang"]) for hit in hits)

    assert await langs() == ["de", "en"]
    assert await langs(collection_ids=[other]) == ["de"]
    assert await langs(collection_ids=[other, await library.default_collection()]) == ["de", "en"]
    assert await langs(filters=Comparison(Comparator.EQ, "lang", "en")) == ["en"]
    assert await langs(filters=Comparison(Comparator.GT, "year", 2021)) == ["de"]
    assert await langs(filters=Listing(Membership.NIN, "lang", ("en", "de"))) == []
    assert await langs(collection_ids=[other], filters=Comparison(Comparator.EQ, "lang", "en")) == []


async def test_an_unknown_collection_is_not_found(library: Library) -> None:
    await library.add(KETTLES)
    with pytest.raises(NotFound):
        await find(library, collection_ids=[await library.default_collection(), new_id()])


@pytest.mark.parametrize("is_small", [True, False])
@pytest.mark.parametrize("mode", SearchMode)
async def test_a_workspace_never_sees_another(
    library: Library, pool: Pool, storage: Storage, settings: Settings, mode: SearchMode, *, scan: Scan, is_small: bool
) -> None:
    stranger = Library(library.resources, (await create_workspace(pool, storage, settings)).id)
    theirs = await stranger.add(KETTLES)
    ours = await library.add(KETTLES, PARCELS)
    scan(is_small=is_small)
    assert {hit.document_id for hit in await find(library, mode=mode)} == {ours}
    assert {hit.document_id for hit in await find(stranger, mode=mode)} == {theirs}
    with pytest.raises(NotFound):
        await find(library, mode=mode, collection_ids=[await stranger.default_collection()])


@pytest.mark.parametrize("is_small", [True, False])
@pytest.mark.parametrize("mode", SearchMode)
async def test_only_the_active_build_of_a_live_document_is_found(
    library: Library, scan: Scan, mode: SearchMode, *, is_small: bool
) -> None:
    document_id = await library.add(KETTLES)
    deleted_id = await library.add(KETTLES)
    renewed = ["Descale the kettle twice a year."]
    await library.build(document_id, renewed, cut(renewed))
    await library.begin_deleting(deleted_id)
    scan(is_small=is_small)
    hits = await find(library, mode=mode)
    assert [(hit.text, hit.version) for hit in hits] == [("Descale the kettle twice a year.", 2)]


@pytest.mark.parametrize("is_small", [True, False])
@pytest.mark.parametrize("mode", SearchMode)
async def test_a_collection_that_is_being_deleted_is_not_searched(
    library: Library, scan: Scan, mode: SearchMode, *, is_small: bool
) -> None:
    doomed = await library.add_collection("doomed")
    await library.add(KETTLES, collection_id=doomed)
    live = await library.add(KETTLES)
    async with library.resources.pool.acquire() as conn:
        await conn.execute("UPDATE collections SET deletion_id = $2 WHERE id = $1", doomed, new_id())
    scan(is_small=is_small)
    hits = await find(library, mode=mode)
    assert {hit.document_id for hit in hits} == {live}
    with pytest.raises(NotFound):
        await find(library, mode=mode, collection_ids=[doomed])


async def test_an_empty_scope_costs_no_embedding(library: Library, scripted_models: ScriptedModels) -> None:
    assert await find(library) == []
    await library.add(KETTLES)
    asked = len(scripted_models.embeddings.requests)
    assert await find(library, "kettle", mode=SearchMode.LEXICAL) != []
    assert len(scripted_models.embeddings.requests) == asked


async def test_lexical_search_works_without_the_embedding_model(
    library: Library, scripted_models: ScriptedModels
) -> None:
    await library.add(KETTLES)
    scripted_models.embeddings.usual = Fail(503)
    assert len(await find(library, "a new query about kettles", mode=SearchMode.LEXICAL)) == 1
    with pytest.raises(TransientFailure):
        await find(library, "a new query about kettles", mode=SearchMode.DENSE)
    # A minimum similarity cannot be checked without the model.
    with pytest.raises(TransientFailure):
        await find(library, "a new query about kettles", min_score=0.2)


async def test_a_hybrid_search_is_lexical_while_the_embedding_model_is_away(
    library: Library, scripted_models: ScriptedModels
) -> None:
    await library.add(KETTLES, PARCELS)
    scripted_models.embeddings.usual = Fail(503)
    query = "a new query about kettles"
    found = await search(library.resources, library.workspace_id, query=query)
    lexical = await search(library.resources, library.workspace_id, query=query, mode=SearchMode.LEXICAL)
    assert found.degraded == (SearchMode.DENSE,)
    assert found.hits == lexical.hits
    assert lexical.degraded == ()


async def test_the_requested_number_of_hits_is_returned(library: Library) -> None:
    await library.add(*(f"Kettle number {number} boils." for number in range(130)))
    for limit in (1, 7, 100):
        hits = await find(library, "kettle boils", limit=limit)
        assert len(hits) == limit
        assert len({hit.chunk_id for hit in hits}) == limit
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


@pytest.mark.parametrize("mode", [SearchMode.DENSE, SearchMode.HYBRID])
async def test_a_scope_of_dissimilar_chunks_is_searched_completely(
    library: Library, scan: Scan, mode: SearchMode
) -> None:
    other = await library.add_collection("other")
    await library.add(*(f"Kettle number {number} is descaled." for number in range(450)))
    away = await library.add(*(f"{PARCELS} Number {number}." for number in range(30)), collection_id=other)
    scan(is_small=False)
    hits = await find(library, "descale the kettle", mode=mode, collection_ids=[other], limit=10)
    scan(is_small=True)
    expected = await find(library, "descale the kettle", mode=mode, collection_ids=[other])
    assert {hit.document_id for hit in hits} == {away}
    assert [hit.chunk_id for hit in hits] == [hit.chunk_id for hit in expected]


async def test_rare_words_outweigh_common_ones(library: Library) -> None:
    await library.add(*(f"The kettle in room {number} boils water." for number in range(30)))
    await library.add("The kettle boils water, and water boils in the kettle.", "Limescale is white.")
    hits = await find(library, "limescale in the kettle", mode=SearchMode.LEXICAL)
    assert hits[0].text == "Limescale is white."


async def test_a_short_chunk_with_two_matches_precedes_a_long_one_with_one(library: Library) -> None:
    once = "A kettle is here. " + "Nothing else is told of anything in any of these many words. " * 5
    await library.add(once, "Kettle, kettle!", PARCELS)
    hits = await find(library, "kettle", mode=SearchMode.LEXICAL)
    assert [hit.text for hit in hits] == ["Kettle, kettle!", once]


async def test_headings_of_a_chunk_are_searched_with_it(library: Library) -> None:
    await library.add(KETTLES, heading_path=("Household", "Limescale"))
    await library.add(REFUNDS, heading_path=("Shop",))
    for query in ("household", "limescale"):
        assert [hit.text for hit in await find(library, query, mode=SearchMode.LEXICAL)] == [KETTLES]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("E-4031", "Error E-4031 means that the lid is open."),
        ("what is E-4031?", "Error E-4031 means that the lid is open."),
        ("foo_bar()", "Call foo_bar() before the loop."),
        ("foo_bar", "Call foo_bar() before the loop."),
        ("std::vector", "A std::vector grows."),
        ("SQLITE_BUSY", "SQLITE_BUSY: somebody else writes."),
        ("/etc/hosts", "Names stand in /etc/hosts there."),
        ("v2.10.3", "Fixed in v2.10.3 at last."),
        ("x@example.org", "Write to x@example.org please."),
        ("0x7fff", "The address 0x7fff is not mapped."),
    ],
)
async def test_identifiers_and_codes_are_matched_literally(library: Library, query: str, text: str) -> None:
    await library.add(
        "Error E-4032 means that it is empty.",
        "Call baz_bar() after the loop.",
        "SQLITE_LOCKED: the same connection writes.",
        "Fixed in v2.10.4 at last.",
        text,
    )
    assert (await find(library, query, mode=SearchMode.LEXICAL))[0].text == text


@pytest.mark.parametrize(
    "query",
    [
        "the of and",
        "?!... --- ///",
        "😀🚀",
        "\"quoted\" & 'single' | ! ( ) : * <->",
        "what\tis\r\nthis",
        "kettle " * 570,
        " ".join(f"word{number}" for number in range(400)),
        "x" * 4000,
        "a\u0301\u0308\u0327 \u200b\u202e\ufeff",
        "\ud7ff\ue000\uffff",
    ],
)
@pytest.mark.parametrize("mode", SearchMode)
async def test_unusual_queries_do_not_fail(library: Library, query: str, mode: SearchMode) -> None:
    await library.add(KETTLES, PARCELS)
    found = {hit.text for hit in await find(library, query, mode=mode)}
    if mode is SearchMode.LEXICAL:
        assert found == ({KETTLES} if "kettle" in query else set())
    else:
        assert found == {KETTLES, PARCELS}


async def test_a_nul_in_a_query_separates_words(library: Library) -> None:
    await library.add(KETTLES)
    assert len(await find(library, "descale\0kettle", mode=SearchMode.LEXICAL)) == 1


async def test_rare_words_count_in_a_long_query(library: Library) -> None:
    await library.add(*(f"Kettle {number} boils." for number in range(20)), "Limescale is white.")
    padding = " ".join(["kettle boils"] * 30)
    hits = await find(library, f"{padding} limescale", mode=SearchMode.LEXICAL, limit=30)
    assert "Limescale is white." in {hit.text for hit in hits}


async def test_the_simple_configuration_does_not_stem_words(library: Library) -> None:
    settings = library.resources.settings.changed({"text_search_config": "simple"})
    simple = replace(library, resources=replace(library.resources, settings=settings))
    await simple.add("Der Kessel wird entkalkt.", "The kettles.")
    for query, expected in (("der Kessel", ["Der Kessel wird entkalkt."]), ("kettle", []), ("the", ["The kettles."])):
        hits = await find(simple, query, mode=SearchMode.LEXICAL)
        assert [hit.text for hit in hits] == expected


async def test_text_without_word_boundaries_is_matched_by_characters(library: Library) -> None:
    kettles = "電気ケトルは三か月ごとにクエン酸で洗浄してください。"
    await library.add(PARCELS, kettles)
    first, second = await find(library, "電気ケトルの洗浄")
    assert first.text == kettles
    assert first.lexical_score is not None
    assert (second.text, second.lexical_score) == (PARCELS, None)


async def test_a_repeated_query_costs_no_embedding(library: Library, scripted_models: ScriptedModels) -> None:
    await library.add(KETTLES)
    await find(library, "the very same question")
    asked = len(scripted_models.embeddings.requests)
    await find(library, "the very same question", limit=3)
    assert len(scripted_models.embeddings.requests) == asked


async def test_a_search_that_times_out_is_reported_as_unavailable(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    await library.add(KETTLES)
    async with owner_of(library.resources.settings) as blocker, blocker.transaction():
        await blocker.execute("LOCK TABLE files IN ACCESS EXCLUSIVE MODE")
        monkeypatch.setattr("ragsvc.db.search.hits.SEARCH_TIMEOUT_S", 0.3)
        with pytest.raises(Unavailable, match="too long"):
            await find(library)
    assert len(await find(library)) == 1


async def test_concurrent_searches_do_not_interfere(library: Library) -> None:
    texts = [f"Room {number} has kettle{number}." for number in range(40)]
    await library.add(*texts)
    hits = await asyncio.gather(*(find(library, f"kettle{number}", limit=1) for number in range(40)))
    assert [found[0].text for found in hits] == texts

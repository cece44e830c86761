"""Tests of selecting the sources of an answer from hits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from ragsvc.answering.sources import choose_sources, join_neighbours, number_sources
from ragsvc.domain.chunks import PageSpan
from tests.support.documents.hits import make_hit

if TYPE_CHECKING:
    from random import Random

    from ragsvc.domain.search import SearchHit

LONG = (
    "Refunds are paid to the card that was charged, and the customer is told by e-mail. The desk on the second floor"
    " helps with parcels that came back damaged, and keeps them until the carrier has looked at them."
)


def choose(hits: list[SearchHit], *, budget_tokens: int = 1000) -> list[SearchHit]:
    """Choose sources from hits; a hit costs as many tokens as its chunk has."""
    return choose_sources(hits, cost=lambda found: found.token_count, budget_tokens=budget_tokens)


def test_only_the_best_source_may_exceed_the_budget() -> None:
    large, medium, small = (
        replace(make_hit(name), token_count=size) for name, size in (("a", 90), ("b", 60), ("c", 40))
    )
    assert choose([medium, large, small], budget_tokens=100) == [medium, small]
    assert choose([large, small], budget_tokens=50) == [large]


@given(
    words=st.lists(st.sampled_from(["ab", "ba", "cab", "abba", "7", "30", "not", "no"]), max_size=40),
    changes=st.lists(st.tuples(st.integers(0, 39), st.sampled_from(["ab", "zu", "ze", "7", "not"])), max_size=4),
)
def test_repetition_is_decided_by_shared_shingles(words: list[str], changes: list[tuple[int, str]]) -> None:
    changed = list(words)
    for index, word in changes:
        changed[index : index + 1] = [word]
    first, second = make_hit(" ".join(words)), make_hit(" ".join(changed))
    shared = len(shingles(changed) & shingles(words))
    is_repeated = shared >= 0.9 * len(shingles(changed))
    says_nothing_new = {"7", "30", "not", "no"}.isdisjoint(set(changed) - set(words))
    assert (len(choose([first, second])) == 1) == (is_repeated and says_nothing_new)


def shingles(words: list[str]) -> set[tuple[str, ...]]:
    """Return all sequences of three consecutive words."""
    return {tuple(words[start : start + 3]) for start in range(max(len(words) - 2, 1))}


def test_duplicate_text_is_one_source() -> None:
    first, again = make_hit("Same."), make_hit("Same.")
    assert choose([first, again]) == [first]
    assert [source.n for source in number_sources([first, make_hit("Other.")])] == [1, 2]


def test_near_duplicate_text_is_one_source() -> None:
    first, again = make_hit(LONG), make_hit(LONG.replace("helps", "assists").upper())
    assert choose([first, again, make_hit("Something else is said here.")])[1:] != [again]
    assert len(choose([first, again])) == 1


def test_texts_that_differ_in_a_number_or_negation_are_separate_sources() -> None:
    longer = f"{LONG} {LONG}"
    fortnight, month = make_hit(f"{longer} It takes 14 days."), make_hit(f"{longer} It takes 30 days.")
    assert choose([fortnight, month]) == [fortnight, month]
    paid, unpaid = make_hit(f"{longer} It is paid."), make_hit(f"{longer} It is not paid.")
    assert choose([paid, unpaid]) == [paid, unpaid]


def cut(text: str, *cuts: tuple[int, int]) -> list[SearchHit]:
    """Cut pieces out of a text and return them as hits, each for a chunk of the same document."""
    whole = make_hit(text, start=0)
    return [
        replace(
            whole,
            chunk_id=make_hit().chunk_id,
            ordinal=ordinal,
            text=text[start:end],
            char_start=start,
            char_end=end,
            page_first=ordinal + 1,
            page_last=ordinal + 1,
            page_spans=(PageSpan(ordinal + 1, start, end),),
            score=1 / (ordinal + 1),
        )
        for ordinal, (start, end) in enumerate(cuts)
    ]


def test_overlapping_neighbours_are_one_source_at_the_rank_of_the_better() -> None:
    first, second, third = cut(LONG, (0, 60), (40, 120), (100, len(LONG)))
    other = make_hit("Something else.")
    joined = join_neighbours([second, other, third, first])
    assert len(joined) == 2
    assert (joined[0].text, joined[0].char_start, joined[0].char_end) == (LONG, 0, len(LONG))
    assert (joined[0].page_first, joined[0].page_last) == (1, 3)
    assert joined[0].chunk_id == first.chunk_id
    assert joined[1] == other


def test_hits_with_a_gap_or_another_heading_are_not_joined() -> None:
    first, second, _third = cut(LONG, (0, 60), (61, 120), (100, len(LONG)))
    assert join_neighbours([first, second]) == [first, second]
    overlapping = cut(LONG, (0, 60), (40, 120))
    elsewhere = [overlapping[0], replace(overlapping[1], heading_path=("Other",))]
    assert join_neighbours(elsewhere) == elsewhere
    foreign = [overlapping[0], replace(overlapping[1], document_id=make_hit().document_id)]
    assert join_neighbours(foreign) == foreign


@given(
    text=st.text(min_size=30, max_size=200),
    borders=st.lists(st.integers(1, 199), min_size=1, max_size=6, unique=True).map(sorted),
    overlap=st.integers(0, 8),
    order=st.randoms(use_true_random=False),
)
def test_the_text_of_a_joined_source_matches_its_span(
    text: str, borders: list[int], overlap: int, order: Random
) -> None:
    starts = sorted({0, *(border for border in borders if border < len(text))})
    ends = [min(start + overlap, len(text)) for start in starts[1:]] + [len(text)]
    hits = cut(text, *zip(starts, ends, strict=True))
    order.shuffle(hits)
    for source in join_neighbours(hits):
        assert text[source.char_start : source.char_end] == source.text

"""Tests of finding `[n]` in a streamed answer and of making citations from it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragsvc.answering.citations.parser import LONGEST_SENTENCE_CHARS, CitationParser, Marker, cite
from ragsvc.domain.chat.citations import NO_SUPPORT, Support, Verdict
from tests.support.documents.hits import make_hit
from tests.support.growth import FACTOR, measure_growth

WORDS = ["Refunds take 14 days", "- item ", "it is 3.5 m", "e.g. ", "etc.", "A", "b", '"', ")", "| "]
CODE = ["`", "``", "```\n"]
STOPS = [" ", ". ", ".", "..", "? ", "! [1]", "\n", "\n\n", "。", "。[1]", ",", " | ", "\t"]
MARKERS = ["[1]", "[2]", "[12]", "[1, 3]", "[", "]", "[x]", "[1", "[1,  "]
pieces = st.sampled_from([*WORDS, *CODE, *STOPS, *MARKERS])
answers = st.lists(pieces, max_size=30).map("".join)


def read_whole(answer: str) -> list[Marker]:
    """Return the markers of an answer that comes in one delta."""
    return read_deltas([answer])


def read_deltas(deltas: list[str]) -> list[Marker]:
    """Return the markers of an answer that comes in pieces."""
    parser = CitationParser()
    markers = [marker for delta in deltas for marker in parser.feed(delta)]
    return markers + parser.finish()


def split(answer: str, cuts: list[int]) -> list[str]:
    """Cut an answer at the given offsets."""
    borders = sorted({min(cut, len(answer)) for cut in cuts})
    return [answer[left:right] for left, right in zip([0, *borders], [*borders, len(answer)], strict=True)]


@given(answer=answers, cuts=st.lists(st.integers(0, 300), max_size=40))
def test_delta_boundaries_do_not_change_the_result(answer: str, cuts: list[int]) -> None:
    assert read_deltas(split(answer, cuts)) == read_whole(answer)


@given(answer=answers)
def test_deltas_of_one_character_do_not_change_the_result(answer: str) -> None:
    assert read_deltas(list(answer)) == read_whole(answer)


@given(
    answer=answers,
    blanks=st.integers(LONGEST_SENTENCE_CHARS - 150, LONGEST_SENTENCE_CHARS + 20),
    filler=st.sampled_from(["x", " ", ".", "[1] "]),
)
def test_delta_boundaries_do_not_change_where_a_long_sentence_is_cut(answer: str, blanks: int, filler: str) -> None:
    long_answer = (filler * blanks)[:blanks] + answer
    assert read_deltas(list(long_answer)) == read_whole(long_answer)


@given(answer=answers)
def test_a_marker_offset_points_at_its_bracket(answer: str) -> None:
    for marker in read_whole(answer):
        bracket = answer[marker.offset : answer.index("]", marker.offset) + 1]
        assert str(marker.n) in bracket.strip("[]").replace(" ", "").split(",")


def test_an_answer_without_full_stops_is_read_in_pieces() -> None:
    answer = "word " * LONGEST_SENTENCE_CHARS + "[1]"
    whole = read_whole(answer)
    assert [(marker.n, marker.offset) for marker in whole] == [(1, answer.index("["))]
    assert read_deltas(split(answer, list(range(0, len(answer), 7)))) == whole


def claims(answer: str) -> list[tuple[int, str]]:
    """Return the number and the claim of each marker."""
    return [(marker.n, marker.claim) for marker in read_whole(answer)]


def test_the_claim_of_a_marker_is_the_text_before_it() -> None:
    assert claims("Refunds take 14 days [1]. Shipping is free [2].") == [
        (1, "Refunds take 14 days ."),
        (2, "Shipping is free ."),
    ]


def test_a_marker_after_the_full_stop_belongs_to_that_sentence() -> None:
    assert claims("Refunds take 14 days. [1] Shipping is free. [2]") == [
        (1, "Refunds take 14 days."),
        (2, "Shipping is free."),
    ]


def test_the_claim_of_a_leading_marker_includes_the_text_after_it() -> None:
    assert claims("According to [1], refunds take 14 days.") == [(1, "According to , refunds take 14 days.")]


def test_brackets_in_code_are_not_citations() -> None:
    answer = "Take `row[1]` of it [2].\n```python\nx = y[1]  # Yes [3].\n```\nDone [4]. A lone ` tick [5]."
    assert [n for n, _claim in claims(answer)] == [2, 4, 5]


def test_brackets_without_a_source_number_are_not_citations() -> None:
    assert claims("See [x], [], [1x], [-1], [1.5], [note 1] and [1234].") == []


def test_all_forms_of_markers_are_read() -> None:
    answer = "It is so [1], [2, 3] and [12][ 4]."
    assert [n for n, _claim in claims(answer)] == [1, 2, 3, 12]


def test_two_clauses_can_have_one_marker_each() -> None:
    assert claims("Refunds take 14 days [1] and shipping is free [2].") == [
        (1, "Refunds take 14 days"),
        (2, "and shipping is free ."),
    ]


def test_adjacent_markers_share_one_claim() -> None:
    assert claims("Refunds take 14 days [1][2].") == [(1, "Refunds take 14 days ."), (2, "Refunds take 14 days .")]
    assert [n for n, _claim in claims("Refunds take 14 days [1, 2].")] == [1, 2]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('There is no root (e.g. "no") [3]. ', [(3, 'There is no root (e.g. "no") .')]),
        ("Ask Dr. Brandt, approx. 14 days before [1]. Done.", [(1, "Ask Dr. Brandt, approx. 14 days before .")]),
        ("No. It takes 14 days, i.e. Two weeks [1].", [(1, "No. It takes 14 days, i.e. Two weeks .")]),
        ("All is well. Das ist so. Ärzte etc.) Über uns [1].", [(1, "Über uns .")]),
    ],
)
def test_an_abbreviation_does_not_end_a_sentence(answer: str, expected: list[tuple[int, str]]) -> None:
    assert claims(answer) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("| `X` | `5` | Checked at any time. | [1]. ", [(1, "| `X` | `5` | Checked at any time. | .")]),
        ("| `X` | Read once. Never again. | [1]\nNext [2].", [(1, "| `X` | Read once. Never again. |"), (2, "Next .")]),
        ("All is well. X | 5 | Now. Or not. | [1]. Next [2].", [(1, "X | 5 | Now. Or not. | ."), (2, "Next .")]),
        ("P(a | b) is high. It works [1].", [(1, "It works .")]),
        ("Known. | X | Read it. | [1]\n", [(1, "Known. | X | Read it. |")]),
        ("Take `a | b | c`. It works [1].", [(1, "It works .")]),
        ("| X | It is so [1]. Not so [2]. |", [(1, "| X | It is so ."), (2, "Not so . |")]),
    ],
)
def test_the_claim_of_a_marker_after_a_table_row_is_the_row(answer: str, expected: list[tuple[int, str]]) -> None:
    assert claims(answer) == expected


def test_a_table_row_repeated_verbatim_is_quoted_in_full() -> None:
    row = "| `WAIT_S` | `5` | Seconds that a reader waits. Checked at any time. |"
    table = f"| variable | default | what it is |\n| --- | --- | --- |\n| `HOST` | `::1` | Where it listens. |\n{row}\n"
    (marker,) = read_whole(f"{row} [1]. ")
    citation = cite(marker, make_hit(table))
    assert (citation.quote, citation.support.score) == (row.removeprefix("| "), 1.0)


HOSTILE = ["x", "word ", ".", ". ", '."', "。", "[1", ". [", ". [1] ", "`", "` `` ", "e.g. ", "| A. ", "\n", " "]


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_repetitive_answer_is_read_in_linear_time(piece: str) -> None:
    def read(size: int) -> None:
        answer = "." + piece * (size // len(piece))
        read_deltas([answer[start : start + 4] for start in range(0, len(answer), 4)])
        read_whole(answer)

    assert measure_growth(read, size=12_500) < 4 * FACTOR


def test_a_marker_is_returned_once_its_sentence_ends() -> None:
    parser = CitationParser()
    assert parser.feed("Refunds take 14 days [1") == []
    assert parser.feed("]. ") == []
    assert [marker.n for marker in parser.feed("Shipping")] == [1]
    assert parser.finish() == []


def test_a_citation_has_the_best_supporting_sentence_and_its_page() -> None:
    citation = cite(Marker(n=1, offset=25, claim="Refunds take 14 days."), make_hit())
    assert citation.quote == "A refund takes 14 days."
    assert (citation.char_start, citation.char_end) == (118, 118 + len("A refund takes 14 days."))
    assert citation.page_first == 5
    assert (citation.version, citation.message_offset) == (3, 25)
    assert citation.support == Support(1.0, Verdict.SUPPORTED)
    assert not citation.verified


def test_a_marker_without_a_source_has_no_span() -> None:
    citation = cite(Marker(n=7, offset=3, claim="Refunds take 14 days."), None)
    assert (citation.n, citation.message_offset) == (7, 3)
    assert (citation.document_id, citation.char_start, citation.quote) == (None, None, None)
    assert (citation.support, citation.verified) == (NO_SUPPORT, False)


@given(text=st.text(st.sampled_from("ab1 .!?\n-[]。#"), min_size=1, max_size=80))
def test_the_span_of_a_citation_contains_its_quote(text: str) -> None:
    source = make_hit(text)
    citation = cite(Marker(n=1, offset=0, claim="a b 1"), source)
    if citation.quote is not None:
        assert citation.char_start is not None
        assert citation.char_end is not None
        assert text[citation.char_start - 100 : citation.char_end - 100] == citation.quote

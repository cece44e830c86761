"""Chunks are exact, complete, within the token limit and under their headings."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragsvc.domain.chunks import Chunk, Heading, PageSpan, ParsedText, Table
from ragsvc.domain.collections import Chunking
from ragsvc.errors.work import DocumentRejected
from ragsvc.ingestion.chunking.chunker import iterate_chunks_of
from ragsvc.ingestion.chunking.cutting import iterate_runs
from ragsvc.ingestion.parsing.formats.text.markdown import scan_headings
from ragsvc.ingestion.parsing.normalisation import normalise
from tests.ingestion.invariants import check_chunks
from tests.ingestion.support import assert_linear_time

if TYPE_CHECKING:
    from ragsvc.llm.token_counting import TokenCounter

CHUNKING = Chunking(max_tokens=240, overlap_tokens=32)
SENTENCE = "The quick brown fox jumps over the lazy dog while the band plays on. "
WORDS = st.sampled_from(["alpha", "naïve", "中文字符", "x" * 150, "e\u0301", "😀", "1,234.56", "…", "a-b", "# one"])
GAPS = st.sampled_from([" ", "  ", "\n", "\n\n", "\t", "\u2003", "", ". "])
TEXTS = st.lists(st.tuples(WORDS, GAPS, st.integers(1, 40)), max_size=6).map(
    lambda parts: normalise("".join((word + gap) * times for word, gap, times in parts))
)


def chunk(
    parsed: ParsedText, counter: TokenCounter, chunking: Chunking = CHUNKING, *, max_chunks: int = 100_000
) -> list[Chunk]:
    return list(iterate_chunks_of(parsed, counter, chunking=chunking, max_input_tokens=256, max_chunks=max_chunks))


def plain(text: str) -> ParsedText:
    return ParsedText(text=text)


def markdown(text: str) -> ParsedText:
    return ParsedText(text=text, headings=tuple(scan_headings(text)), media_type="text/markdown")


@given(text=TEXTS, cuts=st.lists(st.integers(0, 2000), max_size=6), data=st.data())
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
def test_chunks_of_any_text_satisfy_the_invariants(
    counter: TokenCounter, text: str, cuts: list[int], data: st.DataObject
) -> None:
    boundaries = sorted({cut for cut in cuts if cut <= len(text)})
    pages = tuple(
        PageSpan(page=number, char_start=start, char_end=max(end - 1, start))
        for number, (start, end) in enumerate(pairwise([0, *boundaries, len(text) + 1]), start=1)
    )
    headings = tuple(
        Heading(level=data.draw(st.integers(1, 6)), title=f"Title {boundary}", char_start=boundary)
        for boundary in boundaries
    )
    media_type = data.draw(st.sampled_from(["text/plain", "text/markdown"]))
    chunking = Chunking(
        max_tokens=data.draw(st.sampled_from([16, 60, 240])), overlap_tokens=data.draw(st.integers(0, 12))
    )
    parsed = ParsedText(text=text, headings=headings, media_type=media_type)
    check_chunks(parsed, chunk(parsed, counter, chunking), chunking, counter)
    # The same text on pages that are separated by one character.
    blanked = "".join(
        " " if any(page.char_end == at for page in pages) else character for at, character in enumerate(text)
    )
    paged = ParsedText(text=blanked, pages=pages)
    check_chunks(paged, chunk(paged, counter, chunking), chunking, counter)


@given(
    text=st.lists(st.tuples(st.sampled_from("ab \u2003\n"), st.integers(1, 9)), max_size=12).map(
        lambda runs: "".join(character * length for character, length in runs)
    ),
    min_chars=st.integers(1, 7),
    data=st.data(),
)
def test_iterate_runs_finds_the_same_runs_as_a_regular_expression(
    text: str, min_chars: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    found = re.compile(rf"\S{{{min_chars},}}|\s{{{min_chars},}}").finditer(text, start, end)
    assert list(iterate_runs(text, start, end, min_chars=min_chars)) == [match.span() for match in found]


@pytest.mark.parametrize(("row_count", "is_shared"), [(6, True), (60, False)])
def test_a_small_table_shares_a_chunk_with_the_text_around_it(
    counter: TokenCounter, row_count: int, *, is_shared: bool
) -> None:
    before, after = "What everything costs.\n", "Prices change in spring."
    rows = ["Product\tPrice\n", *(f"Kettle {number}\t{number} euros\n" for number in range(1, row_count))]
    starts = [len(before) + sum(map(len, rows[:index])) for index in range(row_count)]
    end = starts[-1] + len(rows[-1])
    table = Table(starts[0], end, tuple(starts), header=(starts[0], starts[1]))
    parsed = ParsedText(text=before + "".join(rows) + after, tables=(table,))
    chunks = chunk(parsed, counter)
    check_chunks(parsed, chunks, CHUNKING, counter)
    assert (len(chunks) == 1) is is_shared
    assert any(piece.context for piece in chunks) is not is_shared


def test_prose_chunks_are_well_filled_and_overlap(counter: TokenCounter) -> None:
    parsed = plain("\n\n".join(SENTENCE * 30 + f"Number {number}." for number in range(10)))
    chunks = chunk(parsed, counter)
    check_chunks(parsed, chunks, CHUNKING, counter)
    assert sum(piece.token_count for piece in chunks) / len(chunks) > 0.6 * CHUNKING.max_tokens
    shared = [first.char_end - second.char_start for first, second in pairwise(chunks)]
    assert sum(length > 0 for length in shared) > len(shared) / 2
    assert max(shared) <= len(SENTENCE) * 3


def test_chunks_do_not_overlap_without_overlap_tokens(counter: TokenCounter) -> None:
    chunks = chunk(plain(SENTENCE * 200), counter, Chunking(max_tokens=100, overlap_tokens=0))
    assert all(first.char_end <= second.char_start for first, second in pairwise(chunks))


def test_chunks_do_not_cross_headings(counter: TokenCounter) -> None:
    body = SENTENCE * 30
    parsed = markdown(f"Preface.\n\n# A\n\n{body}\n\n## B\n\n{body}\n\n## C\n\n{body}\n\n# D\n\n{body}")
    chunks = chunk(parsed, counter)
    check_chunks(parsed, chunks, CHUNKING, counter)
    paths = list(dict.fromkeys(piece.heading_path for piece in chunks))
    assert paths == [(), ("A",), ("A", "B"), ("A", "C"), ("D",)]
    boundaries = [heading.char_start for heading in parsed.headings]
    assert not any(piece.char_start < boundary < piece.char_end for piece in chunks for boundary in boundaries)


@pytest.mark.parametrize("path", [("Book", "Chapter"), ("Book", "Part", "Chapter", "Section")])
def test_headings_without_text_are_merged_with_their_first_subsection(
    counter: TokenCounter, path: tuple[str, ...]
) -> None:
    headings = "\n\n".join(f"{'#' * level} {title}" for level, title in enumerate(path, start=1))
    chunks = chunk(markdown(f"{headings}\n\n{SENTENCE * 4}"), counter)
    assert [piece.heading_path for piece in chunks] == [path]
    assert chunks[0].text.startswith("# Book")


def test_tiny_sections_are_merged_only_under_the_same_heading(counter: TokenCounter) -> None:
    first = f"# A\n\nIntroduction to it.\n{SENTENCE}\n## A1\n\nShort.\n\n## A2\n\nShort too.\n\n"
    text = f"{first}# B\n\nOther.\n\n# C\n\n{SENTENCE * 9}"
    chunks = chunk(markdown(text), counter)
    assert [piece.heading_path for piece in chunks] == [("A",), ("A",), ("B",), ("C",)]
    assert "A1" in chunks[1].text
    assert "A2" in chunks[1].text


def test_chunks_leave_space_for_the_models_special_tokens(counter: TokenCounter) -> None:
    assert counter.special_tokens == 2
    chunks = chunk(plain("word " * 3000), counter, Chunking(max_tokens=256, overlap_tokens=0))
    assert max(piece.token_count for piece in chunks) <= 254


def test_too_many_chunks_are_refused(counter: TokenCounter) -> None:
    parsed = plain(SENTENCE * 400)
    count = len(chunk(parsed, counter))
    assert len(chunk(parsed, counter, max_chunks=count)) == count
    with pytest.raises(DocumentRejected) as refusal:
        chunk(parsed, counter, max_chunks=count - 1)
    assert refusal.value.work_code == "limit_exceeded"


def test_chunking_is_deterministic(counter: TokenCounter) -> None:
    parsed = markdown(f"# A\n\n{SENTENCE * 50}\n\n## B\n\n- item\n" * 3)
    assert chunk(parsed, counter) == chunk(parsed, counter)


@pytest.mark.parametrize(
    "text",
    [
        "a" * 100_000,
        "QUJD/+4x" * 12_500,
        "測試文字" * 10_000,
        "x" + " " * 100_000 + "y",
        "\n" * 100_000 + "x",
        "a\n" * 30_000,
        "alpha beta " * 10_000,
        '{"id":1,"v":"a1b2"},' * 5_000,
        "." * 50_000,
        "👨‍👩‍👧‍👦" * 5_000,
        ("a" + "\u0316" * 50) * 1_000,
    ],
    ids=lambda text: repr(text[:8]),
)
@pytest.mark.parametrize("media_type", ["text/plain", "text/markdown"])
def test_any_shape_of_text_is_chunked_in_linear_time_into_small_chunks(
    counter: TokenCounter, text: str, media_type: str
) -> None:
    parsed = ParsedText(text=text, media_type=media_type)
    chunks = chunk(parsed, counter)
    check_chunks(parsed, chunks, CHUNKING, counter)
    assert max(len(piece.text) for piece in chunks) <= CHUNKING.max_tokens * 32
    assert_linear_time(
        lambda size: ParsedText(text=text[:size], media_type=media_type),
        lambda part: chunk(part, counter),
        size=len(text),
    )


def test_headings_are_embedded_before_the_text_on_request(counter: TokenCounter) -> None:
    parsed = markdown(f"# Book\n\nPreface.\n\n## Part\n\n{SENTENCE * 60}")
    plain_chunks = chunk(parsed, counter)
    with_headings = list(
        iterate_chunks_of(
            parsed, counter, chunking=CHUNKING, max_input_tokens=256, max_chunks=100, headings_in_context=True
        )
    )
    check_chunks(parsed, with_headings, CHUNKING, counter)
    assert {piece.context for piece in plain_chunks} == {""}
    assert {piece.heading_path: piece.context for piece in with_headings} == {
        ("Book",): "Book",
        ("Book", "Part"): "Book > Part",
    }
    assert max(piece.input_token_count for piece in with_headings) <= 254
    assert not {piece.embedding_input_hash for piece in plain_chunks} & {
        piece.embedding_input_hash for piece in with_headings
    }


def test_a_heading_path_that_is_too_long_loses_its_outermost_headings(counter: TokenCounter) -> None:
    long_title = "word " * 80
    parsed = markdown(f"# A {long_title}\n\n## B {long_title}\n\n### Inner\n\n{SENTENCE * 60}")
    chunks = list(
        iterate_chunks_of(
            parsed, counter, chunking=CHUNKING, max_input_tokens=256, max_chunks=100, headings_in_context=True
        )
    )
    assert {(piece.context[:6], piece.context[-9:]) for piece in chunks} == {("B word", "… > Inner")}

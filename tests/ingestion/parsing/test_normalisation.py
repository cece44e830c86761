"""The canonical form is stable, can be stored, and does not depend on how a text is split into pieces."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragsvc.errors.work import DocumentRejected
from ragsvc.ingestion.parsing.normalisation import TextBuilder, has_text, normalise
from tests.ingestion.support import assert_linear_time

ANY_TEXT = st.text(st.characters() | st.characters(categories=["Cs", "Mn"]) | st.sampled_from("\0\r\ne\u0301\ud800"))


@given(ANY_TEXT)
def test_normalising_is_idempotent(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert "\0" not in once
    assert "\r" not in once
    assert once.encode().decode() == once


def test_line_endings_accents_and_unstorable_characters_are_normalised() -> None:
    assert normalise("a\r\nb\rc\0d\ud800e\u0301") == "a\nb\ncd\u00e9"
    assert normalise("a\r\0\nb") == "a\nb"


MARKS = st.text(st.characters(categories=["Mn", "Mc"]) | st.sampled_from("\u0344\u0f73\u0301\u0316é\u2014"))


@given(st.lists(MARKS, min_size=1), st.integers(1, 40))
def test_long_runs_of_marks_are_normalised_as_in_unicode(pieces: list[str], times: int) -> None:
    text = "a".join(piece * times for piece in pieces)
    assert normalise(text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("marks", ["\u0301\u0316", "\u0f73\u0344"])
def test_long_runs_of_marks_are_normalised_in_linear_time(marks: str) -> None:
    def check(text: str) -> None:
        assert len(normalise(text)) >= len(text) - 1

    assert_linear_time(lambda size: "a" + marks * size, check, size=100_000)


@given(st.lists(ANY_TEXT, max_size=8), st.sampled_from(["\n", "\n\n", "\t"]))
def test_the_builder_returns_exact_spans(pieces: list[str], separator: str) -> None:
    builder = TextBuilder(10_000)
    spans = [builder.append(piece, separator=separator) for piece in pieces]
    text = builder.build()
    assert [text[start:end] for start, end in spans] == [normalise(piece) for piece in pieces]
    assert builder.length == len(text)
    assert normalise(text) == text


def test_a_text_beyond_the_limit_is_refused() -> None:
    builder = TextBuilder(10)
    builder.append("12345")
    with pytest.raises(DocumentRejected) as refusal:
        builder.append("67890")
    assert refusal.value.work_code == "limit_exceeded"


@pytest.mark.parametrize("text", ["", " \n\t", "\u00a0\u2003", "\u200b\ufeff", "\x0c\x01", "\ue000"])
def test_blank_and_invisible_characters_are_not_text(text: str) -> None:
    assert not has_text(text)


def test_one_readable_character_is_text() -> None:
    assert has_text(" \n 中")

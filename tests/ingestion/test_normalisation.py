"""The canonical form: stable, storable, and the same however it is put together."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragsvc.errors import DocumentRejected
from ragsvc.ingestion.parsing.normalisation import TextBuilder, has_text, normalise

ANY_TEXT = st.text(st.characters() | st.characters(categories=["Cs", "Mn"]) | st.sampled_from("\0\r\ne\u0301\ud800"))


@given(ANY_TEXT)
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert "\0" not in once
    assert "\r" not in once
    assert once.encode().decode() == once


def test_line_ends_accents_and_dirt_have_one_form() -> None:
    assert normalise("a\r\nb\rc\0d\ud800e\u0301") == "a\nb\ncd\u00e9"
    assert normalise("a\r\0\nb") == "a\nb"


@given(st.lists(ANY_TEXT, max_size=8), st.sampled_from(["\n", "\n\n", "\t"]))
def test_pieces_stand_where_the_builder_says(pieces: list[str], separator: str) -> None:
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
def test_blank_and_invisible_characters_are_no_text(text: str) -> None:
    assert not has_text(text)


def test_one_readable_character_is_text() -> None:
    assert has_text(" \n 中")

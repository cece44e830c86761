"""Tests of splitting text into sentences."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ragsvc.sentences import MAX_SENTENCE_CHARS, split_sentences
from tests.support.growth import FACTOR, measure_growth


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One two. Three four! Five?", ["One two.", "Three four!", "Five?"]),
        (
            "It is 3.5 m long. See Fig. 2 and Dr. Smith. Done.",
            ["It is 3.5 m long.", "See Fig. 2 and Dr. Smith.", "Done."],
        ),
        (
            "# Title\n\nA paragraph that\nwraps. Next.\n- item one\n- item two",
            ["Title", "A paragraph that\nwraps.", "Next.", "item one", "item two"],
        ),
        ("# Title\nIts text. More.\n## Part\nOf it.", ["Title", "Its text.", "More.", "Part", "Of it."]),
        ("1. First step\n2. Second step", ["First step", "Second step"]),
        ("id,name\n17,Ada Lovelace\n18,Grace Hopper", ["id,name", "17,Ada Lovelace", "18,Grace Hopper"]),
        ("Year\tSales\n2024\t12", ["Year\tSales", "2024\t12"]),
        ("Salt, pepper,\nvinegar, oil. Then 1,000\nmore.", ["Salt, pepper,\nvinegar, oil.", "Then 1,000\nmore."]),
        ("水は沸騰する。次の文。", ["水は沸騰する。", "次の文。"]),
        ('He said "no." She left.', ['He said "no."', "She left."]),
        ("   \n\n ", []),
        ("It is\n**very** important,\n*so* read.", ["It is\n**very** important,\n*so* read."]),
        ("Run it with\n--force, see\n#4711. Then", ["Run it with\n--force, see\n#4711.", "Then"]),
        ("Use ps\n| grep foo to find it.", ["Use ps\n| grep foo to find it."]),
        ("If it is\n>5 or\n-3, stop.", ["If it is\n>5 or\n-3, stop."]),
        ("Ask (e.g. `systemctl\n--root=x`). Done.", ["Ask (e.g. `systemctl\n--root=x`).", "Done."]),
        ("So:\n- one\n* two\n> three\n# Four\nfive", ["So:", "one", "two", "three", "Four", "five"]),
        ("•one\n•two", ["•one", "•two"]),
        ("Title\n=====\nText.\n---\nMore.", ["Title", "=====", "Text.", "---", "More."]),
        ("| a | b |\n|---|---|\n| c | D. E. |\nText. End.", ["a | b |", "|---|---|", "c | D. E. |", "Text.", "End."]),
        ("|a|b|\n|c|d|", ["|a|b|", "|c|d|"]),
        ("Use `a | b | c`. P(a | b) is high. Yes.", ["Use `a | b | c`.", "P(a | b) is high.", "Yes."]),
        ("He came.[3] She left [4]. Done.", ["He came.[3]", "She left [4].", "Done."]),
        ("Mail us.\nDr. Who answers.\nNo. 5 too.", ["Mail us.", "Dr. Who answers.", "No. 5 too."]),
        ("Wait... Go?! (Yes.) Now.", ["Wait...", "Go?!", "(Yes.)", "Now."]),
    ],
)
def test_sentences_are_found(text: str, sentences: list[str]) -> None:
    assert [text[start:end] for start, end in split_sentences(text)] == sentences


@given(text=st.text(st.sampled_from("abZ 1.!?\n\t-*#|>。[]"), max_size=1200))
@example(text="> > \n1")
def test_sentences_are_ordered_trimmed_and_short(text: str) -> None:
    before = 0
    for start, end in split_sentences(text):
        assert before <= start < end <= len(text)
        assert end - start <= MAX_SENTENCE_CHARS
        assert text[start:end].strip() == text[start:end]
        before = end


HOSTILE = [".", ". ", "A. ", "。", "| ", "\n|", "\n| a", "| A. ", "\n#", "-", "\n-", "1", ".[1", "a,", "\n "]


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_repetitive_text_is_split_in_linear_time(piece: str) -> None:
    def split(size: int) -> None:
        list(split_sentences("." + piece * (size // len(piece))))

    assert measure_growth(split, size=12_500) < 4 * FACTOR

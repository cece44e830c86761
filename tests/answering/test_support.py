"""How well a sentence carries a claim, and where sentences stand."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ragsvc.answering.sentences import LONGEST_CHARS, split_sentences
from ragsvc.answering.support import find_passage, measure_support
from ragsvc.settings import Settings

LEAST = Settings.model_fields["citation_support_min"].default

# Claims as models make them, with the sentence of the source: carried, and not.
CARRIED = [
    ("Refunds take 14 days.", "A refund takes 14 days."),
    ("Refunds take 14 days.", "Refunds take 14 days from the day of the return, paid to the card."),
    ("The warranty lasts 24 months.", "The warranty covers the device and lasts 24 months after purchase."),
    ("You can descale the kettle with citric acid.", "Descale the kettle every three months with citric acid."),
    ("Orders above 1,000 euros ship free.", "We ship orders over 1000 euros free of charge."),
    ("The policy applies to all employees.", "This policy applies to every employee of the company."),
    ("Backups are stored for 30 days in Frankfurt.", "Backups are stored in Frankfurt and kept for 30 days."),
    ("水は100度で沸騰する。", "海面では水は100度で沸騰する。"),
]
NOT_CARRIED = [
    ("Refunds take 30 days.", "A refund takes 14 days."),
    ("The warranty lasts 24 months.", "Returned devices are repaired in Dresden."),
    ("Shipping is free above 80 euros.", "Shipping is free above 50 euros."),
    ("The chief executive is Ada Byron.", "The company was founded in 1998 in Leipzig."),
    ("Backups are encrypted with AES.", "Backups are stored in Frankfurt."),
    ("Employees may work from abroad for 20 days.", "Employees may work from home."),
    ("Contact the desk on the second floor.", "Parcels arrive within three days."),
]


@pytest.mark.parametrize(("claim", "sentence"), CARRIED)
def test_a_claim_that_the_sentence_makes_is_supported(claim: str, sentence: str) -> None:
    assert measure_support(claim, sentence) >= LEAST


@pytest.mark.parametrize(("claim", "sentence"), NOT_CARRIED)
def test_a_claim_that_the_sentence_does_not_make_is_not_supported(claim: str, sentence: str) -> None:
    assert measure_support(claim, sentence) < LEAST


def test_a_lone_contraction_says_nothing_but_no() -> None:
    assert measure_support("n't", "N't.") == 0.0


def test_a_claim_without_content_has_no_support() -> None:
    assert measure_support("According to this:", "Refunds take 14 days.") == 0.0


@given(claim=st.text(max_size=60), sentence=st.text(max_size=60))
def test_support_is_a_share(claim: str, sentence: str) -> None:
    assert 0.0 <= measure_support(claim, sentence) <= 1.0


def test_the_first_of_equal_sentences_is_quoted() -> None:
    text = "Kettles boil. Kettles boil."
    passage = find_passage("Kettles boil", text)
    assert passage is not None
    assert (passage.start, passage.end) == (0, 13)


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
    ],
)
def test_sentences_are_found(text: str, sentences: list[str]) -> None:
    assert [text[start:end] for start, end in split_sentences(text)] == sentences


@given(text=st.text(st.sampled_from("abZ 1.!?\n\t-*#|>。[]"), max_size=1200))
@example(text="> > \n1")
def test_sentences_follow_one_another_trimmed_and_short(text: str) -> None:
    before = 0
    for start, end in split_sentences(text):
        assert before <= start < end <= len(text)
        assert end - start <= LONGEST_CHARS
        assert text[start:end].strip() == text[start:end]
        before = end

"""Tests of measuring how well a sentence supports a claim."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragsvc.answering.citations.statements import find_clauses, read_statement
from ragsvc.answering.citations.support import find_passage, measure_support
from ragsvc.sentences import split_sentences

ROOT = Path(__file__).parents[3]
TEXTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("deploy/*.md")])
# Scores from here on mean that most of the claim is in the sentence.
LEAST = 0.6

# Claims that models typically make, each with a source sentence: first those that it supports, then the others.
SUPPORTED = [
    ("Refunds take 14 days.", "A refund takes 14 days."),
    ("Refunds take 14 days.", "Refunds take 14 days from the day of the return, paid to the card."),
    ("The warranty lasts 24 months.", "The warranty covers the device and lasts 24 months after purchase."),
    ("You can descale the kettle with citric acid.", "Descale the kettle every three months with citric acid."),
    ("Orders above 1,000 euros ship free.", "We ship orders over 1000 euros free of charge."),
    ("The policy applies to all employees.", "This policy applies to every employee of the company."),
    ("Backups are stored for 30 days in Frankfurt.", "Backups are stored in Frankfurt and kept for 30 days."),
    ("水は100度で沸騰する。", "海面では水は100度で沸騰する。"),
]
UNSUPPORTED = [
    ("Refunds take 30 days.", "A refund takes 14 days."),
    ("The warranty lasts 24 months.", "Returned devices are repaired in Dresden."),
    ("Shipping is free above 80 euros.", "Shipping is free above 50 euros."),
    ("The chief executive is Ada Byron.", "The company was founded in 1998 in Leipzig."),
    ("Backups are encrypted with AES.", "Backups are stored in Frankfurt."),
    ("Employees may work from abroad for 20 days.", "Employees may work from home."),
    ("Contact the desk on the second floor.", "Parcels arrive within three days."),
]


@pytest.mark.parametrize(("claim", "sentence"), SUPPORTED)
def test_a_claim_that_the_sentence_makes_is_supported(claim: str, sentence: str) -> None:
    assert measure_support(claim, sentence) >= LEAST


@pytest.mark.parametrize(("claim", "sentence"), UNSUPPORTED)
def test_a_claim_that_the_sentence_does_not_make_is_not_supported(claim: str, sentence: str) -> None:
    assert measure_support(claim, sentence) < LEAST


def test_a_lone_contraction_has_no_support() -> None:
    assert measure_support("n't", "N't.") == 0.0


def test_a_claim_without_content_has_no_support() -> None:
    assert measure_support("According to this:", "Refunds take 14 days.") == 0.0


@given(claim=st.text(max_size=60), sentence=st.text(max_size=60))
def test_support_is_between_zero_and_one(claim: str, sentence: str) -> None:
    assert 0.0 <= measure_support(claim, sentence) <= 1.0


def test_the_first_of_equal_sentences_is_quoted() -> None:
    text = "Kettles boil. Kettles boil."
    passage = find_passage("Kettles boil", text)
    assert passage is not None
    assert (passage.start, passage.end) == (0, 13)


def stating_parts(sentence: str) -> list[str]:
    """Return every run of adjacent clauses that states something; the longest run is the whole sentence."""
    clauses = list(find_clauses(sentence))
    bounds = combinations(range(len(clauses) + 1), 2)
    parts = [sentence[clauses[first][0] : clauses[end - 1][1]] for first, end in bounds]
    return [part for part in parts if not read_statement(part).is_empty]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_sentence_of_a_text_supports_itself_and_its_clauses(path: Path) -> None:
    text = path.read_text()
    sentences = [text[start:end] for start, end in split_sentences(text)]
    assert [
        (part, sentence)
        for sentence in sentences
        for part in stating_parts(sentence)
        if measure_support(part, sentence) < 1.0
    ] == []


WORDS = (
    "the door lamp Ada Twelve 12 days hours % € not no never nor neither unless Don't can't on off more less if when"
    " and or but it Not None Ada's 3.50 °C start stop - : ; , . except"
)


@given(text=st.lists(st.sampled_from(WORDS.split()), max_size=20).map(" ".join))
def test_generated_sentences_support_themselves_and_their_clauses(text: str) -> None:
    for start, end in split_sentences(text):
        for part in stating_parts(text[start:end]):
            assert measure_support(part, text[start:end]) == 1.0


@given(text=st.text())
def test_any_text_supports_itself_or_states_nothing(text: str) -> None:
    assert measure_support(text, text) == (0.0 if read_statement(text).is_empty else 1.0)


# Clauses as (subject, verb, rest); the first two are similar. JOINTS are the words that join clauses.
CLAUSES = [("smoking", "is", "allowed"), ("drinking", "is", "allowed"), ("the door", "is", "locked"),
           ("guests", "may", "swim at night"), ("Ada", "has", "paid")]  # fmt: skip
JOINTS = [", ", " and ", " but ", " if ", "; ", " because ", " while "]
turns = st.lists(st.booleans(), min_size=len(CLAUSES), max_size=len(CLAUSES))


def join_clauses(order: list[int], joints: list[str], *, negated: list[bool]) -> str:
    """Join clauses into a sentence; `negated` says for each clause whether to negate it."""
    spoken = [f"{subject} {verb} not {rest}" if negated[index] else f"{subject} {verb} {rest}"
              for index, (subject, verb, rest) in enumerate(CLAUSES)]  # fmt: skip
    return "".join(spoken[index] + joint for index, joint in zip(order, joints, strict=False)) + "then"


@given(
    order=st.lists(st.integers(0, len(CLAUSES) - 1), unique=True, min_size=1),
    joints=st.lists(st.sampled_from(JOINTS), min_size=len(CLAUSES), max_size=len(CLAUSES)),
    negated=turns,
    claim_negated=turns,
    data=st.data(),
)
def test_a_claim_is_supported_only_if_each_clause_is_negated_as_in_the_sentence(
    order: list[int], joints: list[str], negated: list[bool], claim_negated: list[bool], data: st.DataObject
) -> None:
    sentence = join_clauses(order, joints, negated=negated)
    claimed = data.draw(st.lists(st.sampled_from(order), unique=True, min_size=1))
    is_reversed = any(negated[index] != claim_negated[index] for index in claimed)
    support = measure_support(join_clauses(claimed, joints[::-1], negated=claim_negated), sentence)
    assert (support < LEAST) == is_reversed


@pytest.mark.parametrize(
    ("claim", "sentence"),
    [
        ("Ada Brandt's notice is kept.", "We keep Ada Brandt's notice."),
        ("The notice of Ada Brandt is kept Twelve days.", "We keep Ada Brandt's notice Twelve days."),
        ("We never say Don't Panic here.", "Here we never say Don't Panic."),
    ],
)
def test_a_name_matches_in_every_form(claim: str, sentence: str) -> None:
    assert measure_support(claim, sentence) >= LEAST

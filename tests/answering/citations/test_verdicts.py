"""Verdicts on citations: supported and contradicted are nearly always right, and whatever is not certain is unknown."""

from __future__ import annotations

import pytest

from ragsvc.answering.citations.judging.verdict import judge
from ragsvc.answering.citations.support import find_passage
from ragsvc.domain.chat.citations import Verdict
from tests.answering.citations.judged.pairs import LANGUAGES, judge_all, recall, wrong

# Claims with the words of their source that say something else.
DIFFERENT = [
    ("The supplier must indemnify the customer.", "The customer must indemnify the supplier."),
    ("The vaccine causes autism.", "The claim that the vaccine causes autism was retracted."),
    ("The drug cures cancer.", "If the drug cures cancer, we will know by 2030."),
    ("Employees may drink alcohol at work.", "It is rumoured that employees may drink alcohol at work."),
    ("The fee is 5 euros per month from 12 onwards.", "The fee is 12 euros per month from 5 onwards."),
    ("Admission is free.", "Admission is free for people under 26."),
    ("Der Vermieter zahlt dem Mieter die Kaution.", "Der Mieter zahlt dem Vermieter die Kaution."),
    ("貸主は借主に敷金を払う。", "借主は貸主に敷金を払う。"),
]


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_pair_of_the_tuning_set_has_a_wrong_verdict(language: str) -> None:
    outcomes = judge_all("tuning", language)
    assert [str(one) for verdict in (Verdict.SUPPORTED, Verdict.CONTRADICTED) for one in wrong(outcomes, verdict)] == []
    assert recall(outcomes, Verdict.SUPPORTED) >= 0.8


def test_verdicts_on_pairs_that_were_kept_aside_are_rarely_wrong() -> None:
    """The rules were not changed after they had been measured on these pairs, which somebody else had written."""
    every = [judge_all("held_out", language) for language in LANGUAGES]
    for language, outcomes in zip(LANGUAGES, every, strict=True):
        for verdict in (Verdict.SUPPORTED, Verdict.CONTRADICTED):
            given = sum(one.verdict is verdict for one in outcomes)
            figures = f"{given} of {len(outcomes)}, recall {recall(outcomes, verdict):.2f}"
            print(f"{language}: {verdict} {figures}")  # noqa: T201 - the figures belong in the test's output
    together = tuple(one for outcomes in every for one in outcomes)
    for verdict, tolerated in ((Verdict.SUPPORTED, 0.02), (Verdict.CONTRADICTED, 0.05)):
        named = sum(one.verdict is verdict for one in together)
        assert named >= 100
        assert len(wrong(together, verdict)) <= tolerated * named


@pytest.mark.parametrize(("claim", "source"), DIFFERENT)
def test_the_same_words_in_another_sense_are_not_supported(claim: str, source: str) -> None:
    assert judge(claim, source) is not Verdict.SUPPORTED


@pytest.mark.parametrize(
    ("claim", "source"),
    [
        ("De bibliotheek is open.", "De bibliotheek is open."),
        ("Библиотека открыта.", "Библиотека открыта."),
        ("图书馆星期一开放。", "图书馆星期一开放。"),
        ("The warranty lasts 24 months.", "Die Garantie dauert 24 Monate."),
    ],
)
def test_a_language_that_is_not_calibrated_or_not_that_of_the_source_is_unknown(claim: str, source: str) -> None:
    assert judge(claim, source) is not Verdict.CONTRADICTED
    assert judge(claim, source) is Verdict.UNKNOWN or claim == source


def test_a_sentence_that_supports_the_claim_is_preferred_to_one_with_more_of_its_words() -> None:
    text = "Opened software cannot be returned within 14 days. Software can be returned within 14 days."
    passage = find_passage("Software can be returned within 14 days.", text)
    assert passage is not None
    assert (text[passage.start :], passage.support.verdict) == (
        "Software can be returned within 14 days.",
        Verdict.SUPPORTED,
    )

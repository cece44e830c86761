"""Precision and recall of the support score on labelled pairs: the score ranks the sentences of a source."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from ragsvc.answering.citations.support import find_passage
from tests.answering.citations.citation_pairs import PAIRS
from tests.answering.citations.held_out_pairs import HELD_OUT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.answering.citations.citation_pairs import Pair

LEAST = 0.6


def support_of(pair: Pair) -> float:
    """Return how well the best sentence of the passage supports the claim."""
    passage = find_passage(pair.claim, pair.passage)
    assert passage is not None
    return passage.support.score


def measure(pairs: Sequence[Pair], threshold: float) -> tuple[float, float]:
    """Return the precision and recall at a threshold."""
    passed = [pair.is_supported for pair in pairs if support_of(pair) >= threshold]
    return sum(passed) / max(len(passed), 1), sum(passed) / sum(pair.is_supported for pair in pairs)


@pytest.mark.parametrize("pairs", [PAIRS, HELD_OUT], ids=["pairs", "held_out"])
def test_nine_of_ten_well_scored_sentences_support_the_claim(pairs: Sequence[Pair]) -> None:
    precision, recall = measure(pairs, LEAST)
    assert precision >= 0.9
    assert recall >= 0.95


def test_wrong_numbers_units_and_opposites_never_pass_and_negations_at_most_once() -> None:
    passed = Counter(pair.kind for pair in [*PAIRS, *HELD_OUT] if not pair.is_supported and support_of(pair) >= LEAST)
    assert not passed.keys() & {"number", "unit", "opposite", "clause turned", "unrelated"}
    assert passed["negation"] <= 1


def test_there_are_enough_pairs() -> None:
    assert len(PAIRS) >= 100
    assert len({(pair.claim, pair.passage) for pair in [*PAIRS, *HELD_OUT]}) == len(PAIRS) + len(HELD_OUT)

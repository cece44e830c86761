"""Precision and recall of the support score on labelled pairs, and the default threshold chosen from them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from ragsvc.answering.citations.support import find_passage
from ragsvc.settings.settings import FIELDS
from tests.answering.citations.citation_pairs import PAIRS
from tests.answering.citations.held_out_pairs import HELD_OUT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.answering.citations.citation_pairs import Pair

THRESHOLDS = [step / 20 for step in range(4, 20)]
LEAST = FIELDS["citation_support_min"].default


def support_of(pair: Pair) -> float:
    """Return how well the best sentence of the passage supports the claim."""
    passage = find_passage(pair.claim, pair.passage)
    assert passage is not None
    return passage.support


def measure(pairs: Sequence[Pair], threshold: float) -> tuple[float, float]:
    """Return the precision and recall at a threshold."""
    passed = [pair.is_supported for pair in pairs if support_of(pair) >= threshold]
    return sum(passed) / max(len(passed), 1), sum(passed) / sum(pair.is_supported for pair in pairs)


def f1_score(precision: float, recall: float) -> float:
    """Return the harmonic mean of precision and recall."""
    return 2 * precision * recall / (precision + recall)


def test_the_default_threshold_is_the_strictest_of_the_best() -> None:
    figures = {threshold: measure(PAIRS, threshold) for threshold in THRESHOLDS}
    for threshold, (precision, recall) in figures.items():
        held_out = measure(HELD_OUT, threshold)
        print(  # noqa: T201 - the figures belong in the test's output
            f"{threshold:.2f}  precision {precision:.3f} recall {recall:.3f}"
            f"  held out: precision {held_out[0]:.3f} recall {held_out[1]:.3f}"
        )
    best = max(f1_score(*figure) for figure in figures.values())
    assert max(threshold for threshold, figure in figures.items() if f1_score(*figure) == best) == LEAST


@pytest.mark.parametrize("pairs", [PAIRS, HELD_OUT], ids=["pairs", "held_out"])
def test_precision_at_the_default_threshold_is_at_least_nine_tenths(pairs: Sequence[Pair]) -> None:
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

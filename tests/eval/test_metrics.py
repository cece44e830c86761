"""The metrics of the evaluation, on rankings with known scores."""

from __future__ import annotations

import numpy as np
import pytest

from tests.eval.metrics import METRICS, estimate, score, score_all


@pytest.mark.parametrize(
    ("rank", "expected"),
    [
        (1, (1, 1, 1, 1, 1)),
        (2, (0, 1, 1, 1 / 2, 0.6309)),
        (5, (0, 1, 1, 1 / 5, 0.3869)),
        (10, (0, 0, 1, 1 / 10, 0.2891)),
        (11, (0, 0, 0, 0, 0)),
        (None, (0, 0, 0, 0, 0)),
    ],
)
def test_rank_metrics_match_the_textbook(rank: int | None, expected: tuple[float, ...]) -> None:
    assert score(rank) == pytest.approx(expected, abs=1e-4)


def test_every_question_has_the_same_weight() -> None:
    assert score_all([1, None, 2]).mean(axis=0) == pytest.approx([1 / 3, 2 / 3, 2 / 3, 0.5, 1.6309 / 3], abs=1e-4)
    assert score_all([]).shape == (0, len(METRICS))


def test_the_interval_contains_the_mean_and_narrows_with_more_questions() -> None:
    few, many = (estimate(np.tile([0.0, 1.0, 1.0, 1.0], count)) for count in (5, 500))
    for one in (few, many):
        assert one.low <= one.mean <= one.high
        assert one.mean == 0.75
    assert many.high - many.low < (few.high - few.low) / 5


def test_without_variance_there_is_no_interval() -> None:
    one = estimate(np.ones(7))
    assert (one.mean, one.low, one.high) == (1, 1, 1)

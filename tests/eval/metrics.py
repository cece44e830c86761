"""Ranking metrics and their confidence intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DEPTH = 10
RESAMPLES = 2000
CONFIDENCE = 0.95
METRICS = ("recall@1", "recall@5", "recall@10", "MRR", "nDCG@10")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over questions with its 95 % confidence interval."""

    mean: float
    low: float
    high: float


def score(rank: int | None) -> tuple[float, ...]:
    """Return METRICS for one question, whose passage is first found at this rank (from 1; None if never).

    Every question has one passage, so recall is 0 or 1 and the ideal gain is 1.
    """
    if rank is None or rank > DEPTH:
        return (0.0,) * len(METRICS)
    return (float(rank <= 1), float(rank <= 5), 1.0, 1 / rank, 1 / math.log2(1 + rank))


def score_all(ranks: Sequence[int | None]) -> NDArray[np.float64]:
    """Return METRICS of every question, shape (questions, metrics)."""
    return np.array([score(rank) for rank in ranks]).reshape(len(ranks), len(METRICS))


def estimate(scores: NDArray[np.float64]) -> Estimate:
    """Return the mean of one metric with its percentile bootstrap interval (Efron 1979)."""
    drawn = np.random.default_rng(0).integers(len(scores), size=(RESAMPLES, len(scores)))
    low, high = np.quantile(scores[drawn].mean(axis=1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(scores.mean()), float(low), float(high))

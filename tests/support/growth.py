"""Measures how the cost of a function grows with its input, independently of the machine's speed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FACTOR = 8
REPETITIONS = 3


def measure_growth(function: Callable[[int], object], *, size: int) -> float:
    """Return how many times as much CPU time a call takes for `FACTOR` times the size.

    Linear cost gives about FACTOR, quadratic cost its square. The time for each size is that of its fastest repetition.
    """
    return _measure(function, size * FACTOR) / _measure(function, size)


def _measure(function: Callable[[int], object], size: int) -> float:
    times_s = []
    for _ in range(REPETITIONS):
        started_at = time.process_time()
        function(size)
        times_s.append(time.process_time() - started_at)
    return min(times_s)

"""Assertions that several tests of ingestion share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

import pytest

from ragsvc.errors.work import DocumentRejected

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.ingestion.conftest import Parse

Input = TypeVar("Input")
GROWTH = 8
MAX_RATIO = 3 * GROWTH
ATTEMPTS = 3


def refusal_of(parse: Parse, data: bytes, filename: str = "file", **options: object) -> tuple[str, str]:
    """Parse a file that must be refused, and return the code and the detail of the refusal."""
    with pytest.raises(DocumentRejected) as refusal:
        parse(data, filename, **options)
    return refusal.value.work_code, refusal.value.detail


def assert_linear_time(make: Callable[[int], Input], run: Callable[[Input], object], *, size: int) -> None:
    """Assert that the CPU time of `run(make(size))` grows about linearly with the size.

    Compares it with the time for an eighth of the size, so the result does not depend on the speed of the machine:
    quadratic time would give a ratio of 64. Other load distorts single measurements, so the best attempt counts.
    """
    small, large = make(size // GROWTH), make(size)
    ratios: list[float] = []
    while len(ratios) < ATTEMPTS and min(ratios, default=MAX_RATIO) >= MAX_RATIO:
        ratios.append(_cpu_time_s(run, large) / min(_cpu_time_s(run, small) for _ in range(2)))
    assert min(ratios) < MAX_RATIO


def _cpu_time_s(run: Callable[[Input], object], value: Input) -> float:
    started = time.process_time()
    run(value)
    return time.process_time() - started

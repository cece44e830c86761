"""Times are drawn from the last calls of the same size."""

from __future__ import annotations

from ragsvc.llm.call_times import MAX_KNOWN, MIN_KNOWN, CallTimes


def test_no_time_is_drawn_from_too_few_calls() -> None:
    times = CallTimes()
    for _ in range(MIN_KNOWN - 1):
        times.add(1, seconds=0.5)
        times.add(2, seconds=0.7)
    assert times.draw(1) is None
    times.add(1, seconds=0.5)
    assert times.draw(1) == 0.5
    assert times.draw(2) is None


def test_only_the_last_calls_are_drawn_from() -> None:
    times = CallTimes()
    times.add(1, seconds=-1.0)
    for number in range(MAX_KNOWN):
        times.add(1, seconds=float(number))
    drawn = {times.draw(1) for _ in range(50 * MAX_KNOWN)}
    assert -1.0 not in drawn
    assert len(drawn) > MAX_KNOWN / 2

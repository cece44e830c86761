"""The benchmark table shows every figure and every missed goal."""

from __future__ import annotations

import pytest

from tests.bench.table import BenchTable, Row, at_least, at_most, ratio_at_least, ratio_at_most, to_markdown


def test_the_table_shows_figures_and_goals() -> None:
    finished: list[Row] = []
    table = BenchTable("queue", finished)
    table.add("start, p50", 3.814, "ms", peer=("arq", 295.2), goal=at_most(10))
    table.add("empty jobs", 1234.6, "jobs/s")
    table.check()
    head, rule, start, empty = ([cell.strip() for cell in line.strip("|").split("|")] for line in to_markdown(finished))
    assert head == ["bench", "what", "ours", "peer or limit", "ratio", "goal", "met"]
    assert set("".join(rule)) == {"-"}
    assert start == ["queue", "start, p50", "3.81 ms", "arq: 295 ms", "0.0129x", "≤ 10.0 ms", "yes"]
    assert empty == ["queue", "empty jobs", "1,235 jobs/s", "", "", "", ""]


@pytest.mark.parametrize("goal", [at_most(1), at_least(3), ratio_at_most(0.4), ratio_at_least(0.6)], ids=str)
def test_a_missed_goal_fails_the_bench_and_is_in_the_table(goal: object) -> None:
    finished: list[Row] = []
    table = BenchTable("queue", finished)
    table.add("one", 2, "s", peer=("limit", 4), goal=goal)  # type: ignore[arg-type]
    table.add("another", 1, "s")
    with pytest.raises(AssertionError, match="one"):
        table.check()
    assert [row.is_met for row in finished] == [False, True]


def test_a_ratio_to_zero_meets_no_goal() -> None:
    table = BenchTable("queue", [])
    table.add("one", 2, "s", peer=("nothing", 0), goal=ratio_at_least(0.1))
    with pytest.raises(AssertionError, match="one"):
        table.check()

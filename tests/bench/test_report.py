"""The benchmarks page is generated correctly from the table of results."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.bench.report import PAGE, read_results, write_page
from tests.bench.table import Row, at_most, ratio_at_least, to_markdown

if TYPE_CHECKING:
    from pathlib import Path

ROWS = (
    Row(bench="queue", what="start, p50", ours=7.92, unit="ms", peer=("BullMQ", 2.55), goal=at_most(10)),
    Row(bench="queue", what="empty jobs", ours=356, unit="jobs/s", peer=("BullMQ", 4835), goal=ratio_at_least(0.5)),
    Row(bench="queue", what="CPU while idle", ours=0.267, unit="%", peer=("BullMQ", -3.7e-16), goal=None),
    Row(bench="search", what="100,000 chunks, 5.0%, random: p50", ours=15.7, unit="ms", peer=None, goal=None),
)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "results.md"
    path.write_text("\n".join(["Measured on a desk calculator.", "", *to_markdown(ROWS), ""]))
    return path


def test_the_table_is_read_as_it_was_written(results: Path) -> None:
    conditions, figures = read_results(results)
    assert conditions == "Measured on a desk calculator."
    assert [(one.bench, one.what, one.ours) for one in figures] == [(row.bench, row.what, row.ours) for row in ROWS]
    assert [one.theirs for one in figures[:2]] == [2.55, 4835]
    assert [one.peer_name for one in figures[:2]] == ["BullMQ", "BullMQ"]


def test_a_gain_is_above_one_where_ours_is_better(results: Path) -> None:
    _conditions, (start, empty, *_rest) = read_results(results)
    assert start.gain == pytest.approx(2.55 / 7.92)
    assert empty.gain == pytest.approx(356 / 4835)


def test_the_page_has_every_row_and_says_which_goals_are_missed(results: Path) -> None:
    page = write_page(*read_results(results))
    assert "Measured on a desk calculator." in page
    assert "| start, p50 | 7.92 ms | BullMQ: 2.55 ms | 3.11x | ≤ 10.0 ms met |" in page
    assert re.search(r"\| empty jobs \|.*\*\*missed\*\* \|", page)
    assert "| CPU while idle | 0.267 % | BullMQ: about 0 |  |  |" in page


def test_the_committed_page_has_its_plots() -> None:
    plots = re.findall(r"!\[[^\]]+\]\((images/[a-z-]+\.svg)\)", PAGE.read_text())
    assert plots
    assert [plot for plot in plots if not (PAGE.parent / plot).exists()] == []

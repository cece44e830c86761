"""Collects the figures of all benchmarks into one table, printed at the end and written to `.bench/` as Markdown."""

from __future__ import annotations

import datetime
import os
import platform
from typing import TYPE_CHECKING

import pytest

from tests.bench.table import BenchTable, to_markdown

if TYPE_CHECKING:
    from tests.bench.table import Row

ROWS = pytest.StashKey[list["Row"]]()
RESULTS_FILE = ".bench/results.md"


@pytest.fixture
def bench_table(request: pytest.FixtureRequest) -> BenchTable:
    """The table of a benchmark: `add` each figure, then `check` the goals."""
    bench = request.path.parent.name
    return BenchTable(bench, request.config.stash.setdefault(ROWS, []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table and write it to a file."""
    rows = config.stash.get(ROWS, [])
    if not rows:
        return
    lines = to_markdown(rows)
    terminalreporter.section("benches")
    terminalreporter.line(_conditions())
    for line in lines:
        terminalreporter.line(line)
    results_file = config.rootpath / RESULTS_FILE
    results_file.parent.mkdir(exist_ok=True)
    results_file.write_text("\n".join([_conditions(), "", *lines, ""]), encoding="utf-8")
    terminalreporter.line(f"written to {RESULTS_FILE}")


def _conditions() -> str:
    now = datetime.datetime.now(datetime.UTC)
    load = os.getloadavg()[0]
    machine = f"{os.cpu_count()} cores ({platform.machine()}), load {load:.1f} at the end"
    return f"Measured {now:%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, {machine}."

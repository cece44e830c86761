"""Collects what the benches measure into one table, shown at the end and kept as markdown in `.bench/`."""

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
KEPT = ".bench/results.md"


@pytest.fixture
def bench_table(request: pytest.FixtureRequest) -> BenchTable:
    """Where a bench reports: `add` for each figure, `check` at its end."""
    bench = request.path.parent.name
    return BenchTable(bench, request.config.stash.setdefault(ROWS, []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the table and keep it."""
    rows = config.stash.get(ROWS, [])
    if not rows:
        return
    lines = to_markdown(rows)
    terminalreporter.section("benches")
    terminalreporter.line(_conditions())
    for line in lines:
        terminalreporter.line(line)
    kept = config.rootpath / KEPT
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("\n".join([_conditions(), "", *lines, ""]), encoding="utf-8")
    terminalreporter.line(f"kept in {KEPT}")


def _conditions() -> str:
    now = datetime.datetime.now(datetime.UTC)
    load = os.getloadavg()[0]
    machine = f"{os.cpu_count()} cores ({platform.machine()}), load {load:.1f} at the end"
    return f"Measured {now:%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, {machine}."

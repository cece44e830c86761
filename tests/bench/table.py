"""The table of all benchmarks: figures, peers, and whether each goal is met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HEAD = ("bench", "what", "ours", "peer or limit", "ratio", "goal", "met")
FIGURES = 3


@dataclass(frozen=True, slots=True)
class Goal:
    """The goal for a figure or for its ratio to the peer's."""

    bound: float
    is_upper: bool
    of: Literal["ours", "ratio"]

    def is_met(self, figure: float) -> bool:
        """Return whether the figure is within the bound."""
        return figure <= self.bound if self.is_upper else figure >= self.bound


def at_most(bound: float) -> Goal:
    """Our figure must be at most this."""
    return Goal(bound, is_upper=True, of="ours")


def at_least(bound: float) -> Goal:
    """Our figure must be at least this."""
    return Goal(bound, is_upper=False, of="ours")


def ratio_at_most(bound: float) -> Goal:
    """Our figure divided by the peer's must be at most this."""
    return Goal(bound, is_upper=True, of="ratio")


def ratio_at_least(bound: float) -> Goal:
    """Our figure divided by the peer's must be at least this."""
    return Goal(bound, is_upper=False, of="ratio")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure; `peer` is the compared system and its figure, in the same unit."""

    bench: str
    what: str
    ours: float
    unit: str
    peer: tuple[str, float] | None
    goal: Goal | None

    @property
    def ratio(self) -> float | None:
        """Our figure divided by the peer's."""
        return self.ours / self.peer[1] if self.peer and self.peer[1] else None

    @property
    def is_met(self) -> bool:
        """Whether the goal is met; a figure without a goal always passes."""
        if self.goal is None:
            return True
        figure = self.ours if self.goal.of == "ours" else self.ratio
        return figure is not None and self.goal.is_met(figure)

    def cells(self) -> tuple[str, ...]:
        """Return the cells of the row."""
        peer = f"{self.peer[0]}: {self._show(self.peer[1])}" if self.peer else ""
        ratio = "" if self.ratio is None else f"{_round(self.ratio)}x"
        met = "" if self.goal is None else "yes" if self.is_met else "NO"
        return (self.bench, self.what, self._show(self.ours), peer, ratio, self._show_goal(), met)

    def _show(self, figure: float) -> str:
        return f"{_round(figure)} {self.unit}".rstrip()

    def _show_goal(self) -> str:
        if self.goal is None:
            return ""
        bound = self._show(self.goal.bound) if self.goal.of == "ours" else f"{_round(self.goal.bound)}x"
        return f"{'≤' if self.goal.is_upper else '≥'} {bound}"


class BenchTable:
    """The rows of one benchmark, collected in `finished` for the final table."""

    def __init__(self, bench: str, finished: list[Row]) -> None:
        self._bench = bench
        self._finished = finished
        self._rows: list[Row] = []

    def add(
        self, what: str, ours: float, unit: str, *, peer: tuple[str, float] | None = None, goal: Goal | None = None
    ) -> None:
        """Add a figure."""
        row = Row(bench=self._bench, what=what, ours=ours, unit=unit, peer=peer, goal=goal)
        self._rows.append(row)
        self._finished.append(row)

    def check(self) -> None:
        """Fail if a goal was missed, after adding all figures to the table."""
        missed = [" | ".join(row.cells()[1:-1]) for row in self._rows if not row.is_met]
        assert not missed, "\n".join(missed)


def to_markdown(rows: Iterable[Row]) -> list[str]:
    """Return the table's lines, aligned for a terminal."""
    cells = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEAD))]
    lines = [_line(line, widths) for line in cells]
    return [lines[0], _line(["-" * width for width in widths], widths), *lines[1:]]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"


def _round(figure: float) -> str:
    """Return three significant digits without an exponent."""
    digits = max(0, FIGURES - len(str(int(abs(figure)))))
    if 0 < abs(figure) < 1:
        return f"{figure:.{FIGURES}g}"
    return f"{figure:,.{digits}f}"

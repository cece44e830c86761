"""The one table of all benches: what was measured, beside whom, and whether it is as good as is said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HEAD = ("bench", "what", "ours", "peer or limit", "ratio", "goal", "met")
FIGURES = 3


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure, or its ratio to the peer's, has to be."""

    bound: float
    is_upper: bool
    of: Literal["ours", "ratio"]

    def is_met(self, figure: float) -> bool:
        """Tell whether the figure keeps the bound."""
        return figure <= self.bound if self.is_upper else figure >= self.bound


def at_most(bound: float) -> Goal:
    """Ours has to be so low."""
    return Goal(bound, is_upper=True, of="ours")


def at_least(bound: float) -> Goal:
    """Ours has to be so high."""
    return Goal(bound, is_upper=False, of="ours")


def ratio_at_most(bound: float) -> Goal:
    """Ours divided by the peer's has to be so low."""
    return Goal(bound, is_upper=True, of="ratio")


def ratio_at_least(bound: float) -> Goal:
    """Ours divided by the peer's has to be so high."""
    return Goal(bound, is_upper=False, of="ratio")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure; `peer` names whoever did the same beside us and has theirs, in the same unit."""

    bench: str
    what: str
    ours: float
    unit: str
    peer: tuple[str, float] | None
    goal: Goal | None

    @property
    def ratio(self) -> float | None:
        """Ours divided by the peer's."""
        return self.ours / self.peer[1] if self.peer and self.peer[1] else None

    @property
    def is_met(self) -> bool:
        """Whether the goal is met; what has none cannot miss it."""
        if self.goal is None:
            return True
        figure = self.ours if self.goal.of == "ours" else self.ratio
        return figure is not None and self.goal.is_met(figure)

    def cells(self) -> tuple[str, ...]:
        """Return what the table shows."""
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
    """The rows of one bench; `finished` takes them for the table at the end."""

    def __init__(self, bench: str, finished: list[Row]) -> None:
        self._bench = bench
        self._finished = finished
        self._rows: list[Row] = []

    def add(
        self, what: str, ours: float, unit: str, *, peer: tuple[str, float] | None = None, goal: Goal | None = None
    ) -> None:
        """Report a figure."""
        row = Row(bench=self._bench, what=what, ours=ours, unit=unit, peer=peer, goal=goal)
        self._rows.append(row)
        self._finished.append(row)

    def check(self) -> None:
        """Fail when a goal is missed, once all figures are in the table."""
        missed = [" | ".join(row.cells()[1:-1]) for row in self._rows if not row.is_met]
        assert not missed, "\n".join(missed)


def to_markdown(rows: Iterable[Row]) -> list[str]:
    """Return the table's lines, aligned so that a terminal can show them as they are."""
    cells = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEAD))]
    lines = [_line(line, widths) for line in cells]
    return [lines[0], _line(["-" * width for width in widths], widths), *lines[1:]]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"


def _round(figure: float) -> str:
    """Return three figures, and no exponent."""
    digits = max(0, FIGURES - len(str(int(abs(figure)))))
    if 0 < abs(figure) < 1:
        return f"{figure:.{FIGURES}g}"
    return f"{figure:,.{digits}f}"

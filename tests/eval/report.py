"""The report of an evaluation: Markdown tables and a plot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tests.eval.metrics import METRICS, estimate, score_all

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.eval.questions import Question


@dataclass(frozen=True, slots=True)
class Outcome:
    """The questions, and for each search mode the rank of each answer."""

    title: str
    questions: tuple[Question, ...]
    ranks: Mapping[str, Sequence[int | None]]

    def kinds(self) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """Yield each kind with a mask of its questions, then all questions."""
        kinds = np.array([question.kind for question in self.questions])
        for kind in sorted(set(kinds)):
            yield str(kind), kinds == kind
        yield "all", np.ones(len(kinds), dtype=bool)


def write_markdown(outcome: Outcome) -> str:
    """Return a table for each kind of question: a row per search mode, a column per metric with its interval."""
    parts = [f"# {outcome.title}\n"]
    for kind, chosen in outcome.kinds():
        parts.append(f"## {kind}: {int(chosen.sum())} questions\n")
        parts.append(f"| | {' | '.join(METRICS)} |\n|---|{'---|' * len(METRICS)}")
        for name, ranks in outcome.ranks.items():
            scores = score_all(ranks)[chosen]
            cells = [estimate(scores[:, column]) for column in range(len(METRICS))]
            row = " | ".join(f"{cell.mean:.3f} ({cell.low:.3f} to {cell.high:.3f})" for cell in cells)
            parts.append(f"| {name} | {row} |")
        parts.append("")
    return "\n".join([*parts, *_compare(outcome)])


def _compare(outcome: Outcome) -> Iterator[str]:
    """Yield paired comparisons of the first search mode with each other one."""
    (first, ranks), *others = outcome.ranks.items()
    scores = score_all(ranks)
    for name, theirs in others:
        gain = scores - score_all(theirs)
        cells = [estimate(gain[:, column]) for column in range(len(METRICS))]
        row = ", ".join(
            f"{metric} {cell.mean:+.3f} ({cell.low:+.3f} to {cell.high:+.3f})"
            for metric, cell in zip(METRICS, cells, strict=True)
        )
        yield f"{first} against {name}, on the same questions: {row}\n"


def draw(outcome: Outcome, path: Path) -> None:
    """Plot the figures of the tables as bars with intervals, one row per kind of question."""
    # Imported here because the tables do not need plotting, and the library is not a test dependency.
    from matplotlib.figure import Figure  # noqa: PLC0415

    kinds = list(outcome.kinds())
    figure = Figure(figsize=(11, 2.6 * len(kinds)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(len(kinds), 1, sharex=True))
    width = 0.8 / len(outcome.ranks)
    for axis, (kind, chosen) in zip(axes, kinds, strict=True):
        for position, (name, ranks) in enumerate(outcome.ranks.items()):
            scores = score_all(ranks)[chosen]
            cells = [estimate(scores[:, column]) for column in range(len(METRICS))]
            means = np.array([cell.mean for cell in cells])
            errors = [means - [cell.low for cell in cells], [cell.high for cell in cells] - means]
            at = np.arange(len(METRICS)) + (position - (len(outcome.ranks) - 1) / 2) * width
            bars = axis.bar(at, means, width, yerr=errors, capsize=2, label=name)
            axis.bar_label(bars, fmt="%.2f", fontsize=7, label_type="center", color="white")
        axis.set_ylim(0, 1)
        axis.set_title(f"{kind}: {int(chosen.sum())} questions", loc="left", fontsize=10)
        axis.set_xticks(range(len(METRICS)), METRICS)
    axes[0].legend(loc="lower right", fontsize=8, ncols=len(outcome.ranks))
    figure.suptitle(outcome.title)
    figure.savefig(path, dpi=110)

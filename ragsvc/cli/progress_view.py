"""Shows the progress of files: bytes, rate and time left during the upload, then the stages of ingestion."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn
from rich.text import Text

from ragsvc.cli.output import clean, make_console, print_line, show_size, show_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.progress import Task

    from ragsvc.http.v1.documents import DocumentView

# Interval of progress lines when stdout is not a terminal.
REPORT_EVERY_S = 2.0
PLAIN_BAR_WIDTH = 10


class ProgressView(Protocol):
    """Shows the progress of files, identified by index."""

    def sent(self, index: int, size_bytes: int) -> None:
        """Show how many bytes of a file have been sent."""

    def show(self, index: int, document: DocumentView) -> None:
        """Show a document's status and stage."""

    def fail(self, index: int, message: str) -> None:
        """Show why a file failed."""


@contextmanager
def open_progress_view(
    names: Sequence[str], sizes_bytes: Sequence[int], *, quiet: bool = False
) -> Iterator[ProgressView]:
    """Yield a view: bars on a terminal, lines elsewhere, nothing if quiet."""
    if quiet:
        yield QuietProgressView()
    elif sys.stdout.isatty():
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            Figures(),
            TextColumn("{task.fields[state]}", markup=False),
            console=make_console(),
        ) as progress:
            yield LiveProgressView(progress, names, sizes_bytes)
    else:
        yield LineProgressView(names, sizes_bytes)


def describe_state(document: DocumentView) -> str:
    """Return a document's status, such as `processing: embedding` or `ready: 14 chunks`."""
    status, error = document["status"], document["error"]
    if error is not None:
        wait = f", next attempt {show_time(error['next_attempt_at'])}" if error["next_attempt_at"] else ""
        return clean(f"{status}: {error['message']} ({error['code']}){wait}")
    if status == "ready":
        return f"ready: {_count(document['chunk_count'], 'chunk')}, {_count(document['token_count'], 'token')}"
    return f"{status}: {document['stage']}" if status == "processing" and document["stage"] else str(status)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class QuietProgressView:
    """Shows nothing."""

    def sent(self, index: int, size_bytes: int) -> None:
        """Show nothing."""

    def show(self, index: int, document: DocumentView) -> None:
        """Show nothing."""

    def fail(self, index: int, message: str) -> None:
        """Show nothing."""


class LiveProgressView:
    """Draws a bar for each file: first its bytes, then the progress of its ingestion."""

    def __init__(self, progress: Progress, names: Sequence[str], sizes_bytes: Sequence[int]) -> None:
        self._progress = progress
        self._rows: list[TaskID] = [
            progress.add_task(clean(name), total=size, state="uploading", is_upload=True)
            for name, size in zip(names, sizes_bytes, strict=True)
        ]

    def sent(self, index: int, size_bytes: int) -> None:
        """Advance the bar by bytes."""
        self._progress.update(self._rows[index], completed=size_bytes)

    def show(self, index: int, document: DocumentView) -> None:
        """Advance the bar by the ingestion's progress."""
        completed = 1.0 if document["status"] == "ready" else document["progress"]
        self._progress.update(
            self._rows[index], total=1.0, completed=completed, state=describe_state(document), is_upload=False
        )

    def fail(self, index: int, message: str) -> None:
        """Stop the bar and show the reason."""
        self._progress.update(self._rows[index], state=clean(f"failed: {message}"), is_upload=False)


class Figures(ProgressColumn):
    """Renders an upload's bytes, rate and time left, then the progress of ingestion."""

    def render(self, task: Task) -> Text:
        """Return the figures of a row."""
        if not task.fields["is_upload"]:
            return Text(f"{task.percentage:.0f} %")
        sent = f"{show_size(task.completed)} of {show_size(task.total or 0)}"
        rate = f", {show_size(task.speed)}/s" if task.speed else ""
        left = f", {task.time_remaining:.0f} s left" if task.time_remaining else ""
        return Text(f"{sent}{rate}{left}")


class LineProgressView:
    """Prints a line for each change, for pipes and logs."""

    def __init__(self, names: Sequence[str], sizes_bytes: Sequence[int]) -> None:
        width = max((len(name) for name in names), default=0)
        self._names = [f"{clean(name):<{width}}" for name in names]
        self._sizes_bytes = list(sizes_bytes)
        self._started = time.monotonic()
        self._reported = [self._started] * len(names)
        self._states = [""] * len(names)

    def sent(self, index: int, size_bytes: int) -> None:
        """Print the bytes sent, at intervals and at the end."""
        size, now = self._sizes_bytes[index], time.monotonic()
        if size_bytes < size and now - self._reported[index] < REPORT_EVERY_S:
            return
        self._reported[index] = now
        taken_s = max(now - self._started, 1e-3)
        left = f", {taken_s * (size - size_bytes) / size_bytes:.0f} s left" if 0 < size_bytes < size else ""
        figures = f"{show_size(size_bytes)} of {show_size(size)}, {show_size(size_bytes / taken_s)}/s{left}"
        self._say(index, size_bytes / max(size, 1), f"uploading: {figures}")

    def show(self, index: int, document: DocumentView) -> None:
        """Print a document's status if it has changed."""
        state = describe_state(document)
        if state != self._states[index]:
            self._states[index] = state
            self._say(index, 1.0 if document["status"] == "ready" else document["progress"], state)

    def fail(self, index: int, message: str) -> None:
        """Print why a file failed."""
        print_line(f"{self._names[index]}  failed: {message}")

    def _say(self, index: int, progress: float, text: str) -> None:
        bar = ("█" * round(progress * PLAIN_BAR_WIDTH)).ljust(PLAIN_BAR_WIDTH, "░")
        print_line(f"{self._names[index]}  {bar} {progress:>4.0%}  {text}")

"""A log of events: lines `event job nanoseconds` that processes append to one file."""

from __future__ import annotations

import os
import time
from pathlib import Path

VARIABLE = "BENCH_JOURNAL"


class Journal:
    """One file; short lines are appended atomically."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    @classmethod
    def of_environment(cls) -> Journal:
        """Return the journal named in this process's environment."""
        return cls(Path(os.environ[VARIABLE]))

    def note(self, what: str, number: int) -> None:
        """Append an event of a job with the current time."""
        os.write(self._file, f"{what} {number} {time.time_ns()}\n".encode())

    def read(self, what: str) -> dict[int, float]:
        """Return the time of an event for each job, in seconds."""
        lines = (line.split() for line in self.path.read_text().splitlines())
        return {int(number): int(at) / 1e9 for happened, number, at in lines if happened == what}

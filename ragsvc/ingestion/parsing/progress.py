"""The progress of a parsing process: eight bytes in a file, written by the process and read by its worker."""

from __future__ import annotations

import os
import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

INTERVAL_S = 0.1
FRACTION = struct.Struct("d")


class Progress:
    """Writes a parser's progress to a file, at most every INTERVAL_S; without a file, reports are discarded."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._next = 0.0

    def report(self, done: int, total: int) -> None:
        """Report that `done` of `total` pages, sheets or characters are finished."""
        if self._path is None or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + INTERVAL_S
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(file, FRACTION.pack(done / max(total, 1)), 0)
        finally:
            os.close(file)


NO_PROGRESS = Progress()


def read_progress(path: Path) -> float:
    """Return the fraction (0 to 1) last reported; 0 before the first report."""
    try:
        # The process could have put a link or a pipe there.
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            (fraction,) = FRACTION.unpack(os.read(file, FRACTION.size))
        finally:
            os.close(file)
    except (OSError, struct.error):
        return 0.0
    return float(min(max(fraction, 0.0), 1.0))

"""The file that shows from outside that a worker's loop turns; `ragsvc worker-alive` looks at it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from pathlib import Path

# A busy worker turns its loop hundreds of times a second.
TOUCH_EVERY_S = 1.0

log = structlog.get_logger(__name__)


class Heartbeat:
    """Touches WORKER_ALIVE_FILE, if it is set, and takes it away at a clean end."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._touched_at = float("-inf")

    def begin(self) -> None:
        """Touch the file for the first time.

        Raises:
            SystemExit: it cannot be written, and every check would fail.
        """
        if self._path is None:
            return
        try:
            self._path.touch()
        except OSError as error:
            raise SystemExit(f"ragsvc: WORKER_ALIVE_FILE: cannot write {self._path}: {error.strerror}") from None

    def beat(self) -> None:
        """Touch the file, once a second at most; a disk that is full says so in the log, and the work goes on."""
        now = time.monotonic()
        if self._path is None or now - self._touched_at < TOUCH_EVERY_S:
            return
        self._touched_at = now
        try:
            self._path.touch()
        except OSError as error:
            log.warning("alive_file_not_touched", error=str(error))

    def stop(self) -> None:
        """Take the file away: nothing lives here any more."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

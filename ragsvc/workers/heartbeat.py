"""The heartbeat file of a worker, which `ragsvc worker-alive` checks to see that the event loop is not stuck."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from pathlib import Path

# The event loop of a busy worker iterates hundreds of times per second.
TOUCH_EVERY_S = 1.0

log = structlog.get_logger(__name__)


class Heartbeat:
    """Touches WORKER_ALIVE_FILE, if it is set, and removes it at a clean shutdown."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._touched_at = float("-inf")

    def begin(self) -> None:
        """Touch the file for the first time.

        Raises:
            SystemExit: the file cannot be written, so every check would fail.
        """
        if self._path is None:
            return
        try:
            self._path.touch()
        except OSError as error:
            raise SystemExit(f"ragsvc: WORKER_ALIVE_FILE: cannot write {self._path}: {error.strerror}") from None

    def beat(self) -> None:
        """Touch the file, at most once per second; an error is logged and does not stop the worker."""
        now = time.monotonic()
        if self._path is None or now - self._touched_at < TOUCH_EVERY_S:
            return
        self._touched_at = now
        try:
            self._path.touch()
        except OSError as error:
            log.warning("alive_file_not_touched", error=str(error))

    def stop(self) -> None:
        """Remove the file."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

"""Scratch folders: each worker has one for the files of its jobs, and removes those of killed workers."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "ragsvc-worker-"
LOCK = "lock"

log = structlog.get_logger(__name__)


@contextmanager
def open_scratch() -> Iterator[Path]:
    """Yield a new folder under TMPDIR, locked by this process; if the process is killed, the kernel unlocks it."""
    _remove_abandoned(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with (folder / "locking").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Renamed only after locking, so that no process finds this file unlocked while its owner is alive.
            (folder / "locking").rename(folder / LOCK)
            yield folder


def _remove_abandoned(root: Path) -> None:
    for lock_path in root.glob(f"{PREFIX}*/{LOCK}"):
        try:
            lock = os.open(lock_path, os.O_RDWR)
        except OSError:  # owned by another user, or already removed
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock_path.parent, ignore_errors=True)
            log.info("abandoned_files_removed", folder=str(lock_path.parent))
        except BlockingIOError:  # its worker is alive
            continue
        finally:
            os.close(lock)

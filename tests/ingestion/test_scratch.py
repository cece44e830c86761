"""A worker's scratch files are removed when it ends, or by the next worker if it was killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ragsvc.ingestion.scratch import open_scratch

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKER = """
import sys
from ragsvc.ingestion.scratch import open_scratch
with open_scratch() as folder:
    (folder / "source").write_bytes(b"a client's words")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary directory for these tests only."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@contextmanager
def worker() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process with an open scratch folder, and the folder."""
    with subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def test_files_of_a_killed_worker_are_removed_when_the_next_one_starts() -> None:
    with worker() as (process, folder):
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (folder / "source").exists()
        with open_scratch():
            assert not folder.exists()


def test_files_of_a_running_worker_are_not_removed() -> None:
    with worker() as (_process, folder):
        with open_scratch() as own:
            assert own != folder
            assert (folder / "source").exists()
        assert not own.exists()


def test_other_files_are_not_removed(root: Path) -> None:
    (root / "ragsvc-worker-of-somebody").mkdir()
    (root / "ragsvc-notes").write_text("mine")
    with open_scratch():
        assert (root / "ragsvc-worker-of-somebody").exists()
        assert (root / "ragsvc-notes").exists()

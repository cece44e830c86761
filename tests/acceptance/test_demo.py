"""`ragsvc demo`, as run in a fresh clone of the repository."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from pathlib import Path

# The demo needs half a minute of CPU time, and other tests run at the same time.
TIMEOUT_S = 300.0


def start_demo(tmp_path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "ragsvc", "demo"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # The demo runs its own stores and must ignore any that are configured.
        env={**os.environ, "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"},
        text=True,
    )


def child_processes(demo: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(demo.pid).children(recursive=True)


def test_the_demo_shows_all_features_and_leaves_nothing(tmp_path: Path) -> None:
    demo = start_demo(tmp_path)
    output, errors = demo.communicate(timeout=TIMEOUT_S)
    assert (demo.returncode, errors) == (0, ""), output
    for part in ("postgres", "redis", "s3", "models", "api", "ingestion", "deletion"):
        assert re.search(rf"^ +[0-9.]+ s  {part}", output, re.MULTILINE), output
    for name in ("handbook.pdf", "policy.docx", "release-notes.html", "notes.md"):
        states = re.findall(rf"^{re.escape(name)} .*%  (.*)$", output, re.MULTILINE)
        kinds = list(dict.fromkeys(state.partition(":")[0] for state in states))
        assert kinds[0] == "uploading"
        assert kinds[-2:] == ["processing", "ready"], output
    assert "54 kilometres per hour" in output
    assert re.search(r"^\[\d\] handbook\.pdf, page 3: “.+”$", output, re.MULTILINE), output
    assert re.search(r"^\[\d\] notes\.md, Setup > Linux: “.+plugdev.+”$", output, re.MULTILINE), output
    assert re.search(r"document doc_\w+: completed", output)
    assert "verified by a second check" in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.chaos)]
)
def test_an_interrupted_demo_leaves_no_process_running(tmp_path: Path, number: signal.Signals, code: int) -> None:
    demo = start_demo(tmp_path)
    assert demo.stdout is not None
    for line in demo.stdout:
        if " s  api" in line:
            break
    children = child_processes(demo)
    assert len(children) >= 6
    demo.send_signal(number)
    demo.communicate(timeout=TIMEOUT_S)
    assert demo.returncode == code
    _, alive = psutil.wait_procs(children, timeout=TIMEOUT_S)
    assert alive == []

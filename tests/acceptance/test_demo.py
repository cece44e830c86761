"""The demonstration, as somebody sees it who has just cloned the repository."""

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

# It takes half a minute of processor time, and the other tests leave it a part of that.
LIMIT_S = 300.0


def start_demo(tmp_path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "ragsvc", "demo"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Whatever stores are configured, the demonstration has its own.
        env={**os.environ, "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"},
        text=True,
    )


def family(demo: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(demo.pid).children(recursive=True)


def test_the_demo_shows_everything_and_leaves_nothing(tmp_path: Path) -> None:
    demo = start_demo(tmp_path)
    said, errors = demo.communicate(timeout=LIMIT_S)
    assert (demo.returncode, errors) == (0, ""), said
    for part in ("postgres", "redis", "s3", "models", "api", "ingestion", "deletion"):
        assert re.search(rf"^ +[0-9.]+ s  {part}", said, re.MULTILINE), said
    for name in ("handbook.pdf", "policy.docx", "release-notes.html", "notes.md"):
        states = re.findall(rf"^{re.escape(name)} .*%  (.*)$", said, re.MULTILINE)
        kinds = list(dict.fromkeys(state.partition(":")[0] for state in states))
        assert kinds[0] == "uploading"
        assert kinds[-2:] == ["processing", "ready"], said
    assert "54 kilometres per hour" in said
    assert re.search(r"^\[\d\] handbook\.pdf, page 3: “.+”$", said, re.MULTILINE), said
    assert re.search(r"^\[\d\] notes\.md, Setup > Linux: “.+plugdev.+”$", said, re.MULTILINE), said
    assert re.search(r"document doc_\w+: completed", said)
    assert "verified by a second check" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.chaos)]
)
def test_a_demo_that_is_stopped_leaves_nothing_running(tmp_path: Path, number: signal.Signals, code: int) -> None:
    demo = start_demo(tmp_path)
    assert demo.stdout is not None
    for line in demo.stdout:
        if " s  api" in line:
            break
    children = family(demo)
    assert len(children) >= 6
    demo.send_signal(number)
    demo.communicate(timeout=LIMIT_S)
    assert demo.returncode == code
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []

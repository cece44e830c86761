"""Keeps the credentials of the environment from parsers: none in theirs, none to be read in /proc."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

# Everything else in the environment may be a credential.
ALLOWED_VARIABLES = frozenset({"PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV"})
ALLOWED_PREFIXES = ("LC_", "PYTHON", "COVERAGE_")
# Where /proc/self/stat says the environment of exec lies (proc(5), fields 50 and 51, of which two come before).
ENV_START, ENV_END = 47, 48


def scrub_environment() -> None:
    """Keep only harmless variables, also in what /proc shows of this process."""
    allowed = {
        name: value
        for name, value in os.environ.items()
        if name in ALLOWED_VARIABLES or name.startswith(ALLOWED_PREFIXES)
    }
    os.environ.clear()
    os.environ.update(allowed)
    _clear_exec_environment()


def hide_environment() -> None:
    """Keep every variable, but not where another process of the same user reads it without a debugger's rights."""
    # Each is set anew, elsewhere: else the C library would still look for it in the block.
    os.environ.update(dict(os.environ))
    _clear_exec_environment()


def _clear_exec_environment() -> None:
    """Blank the block of memory that exec left, which is what /proc/self/environ shows."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[ENV_START]), int(fields[ENV_END])
    ctypes.memset(start, 0, end - start)

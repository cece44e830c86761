"""Keeps the credentials of the environment from parsers: none in theirs, none to be read in /proc."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

# Everything else in the environment may be a credential.
KEPT_VARIABLES = frozenset({"PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV"})
KEPT_PREFIXES = ("LC_", "PYTHON", "COVERAGE_")
# Where /proc/self/stat says the environment of exec lies (proc(5), fields 50 and 51, of which two come before).
ENV_START, ENV_END = 47, 48


def forget_environment() -> None:
    """Keep only harmless variables, also in what /proc shows of this process."""
    kept = {
        name: value for name, value in os.environ.items() if name in KEPT_VARIABLES or name.startswith(KEPT_PREFIXES)
    }
    os.environ.clear()
    os.environ.update(kept)
    _wipe_block()


def hide_environment() -> None:
    """Keep every variable, but not where another process of the same user reads it without a debugger's rights."""
    # Each is set anew, elsewhere: else the C library would still look for it in the block.
    os.environ.update(dict(os.environ))
    _wipe_block()


def _wipe_block() -> None:
    """Blank the block of memory that exec left, which is what /proc/self/environ shows."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[ENV_START]), int(fields[ENV_END])
    ctypes.memset(start, 0, end - start)

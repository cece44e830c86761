"""Hides credentials in environment variables from parsers, both in their own environment and in /proc."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

# Any other variable might be a credential.
ALLOWED_VARIABLES = frozenset({"PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV"})
ALLOWED_PREFIXES = ("LC_", "PYTHON", "COVERAGE_")
# env_start and env_end are fields 50 and 51 of /proc/self/stat (proc(5)). These indexes count from 0 and leave out
# the fields pid and comm.
ENV_START, ENV_END = 47, 48


def scrub_environment() -> None:
    """Remove all but harmless variables from this process's environment and from /proc/self/environ."""
    allowed = {
        name: value
        for name, value in os.environ.items()
        if name in ALLOWED_VARIABLES or name.startswith(ALLOWED_PREFIXES)
    }
    os.environ.clear()
    os.environ.update(allowed)
    _clear_exec_environment()


def hide_environment() -> None:
    """Clear /proc/self/environ, which other processes of the same user can read; `os.environ` is unchanged."""
    # Setting a variable copies it. Without the copies, the C library would still refer to the block that is cleared.
    os.environ.update(dict(os.environ))
    _clear_exec_environment()


def _clear_exec_environment() -> None:
    """Overwrite the environment block that exec created, which is what /proc/self/environ shows."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[ENV_START]), int(fields[ENV_END])
    ctypes.memset(start, 0, end - start)

"""Stores the ids of unfinished upload sessions, so that the same command resumes them."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import orjson


@dataclass(frozen=True, slots=True)
class ResumeState:
    """The session id of one file's upload, stored in a small file in the user's state directory."""

    path: Path

    @classmethod
    def of_file(cls, path: Path, *, base_url: str, fields: dict[str, Any]) -> Self:
        """Return the state for sending the current version of this file to this service with these fields."""
        stat = path.stat()
        identity = [str(path.resolve()), stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, base_url, fields]
        name = hashlib.sha256(orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)).hexdigest()
        return cls(_state_dir() / name)

    def read(self) -> str | None:
        """Return the session id, or None."""
        try:
            return self.path.read_text() or None
        except (OSError, UnicodeDecodeError):
            return None

    def write(self, upload_id: str) -> None:
        """Store the session id. If that fails, the upload just cannot be resumed."""
        with suppress(OSError):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
            fresh.write_text(upload_id)
            fresh.replace(self.path)

    def forget(self) -> None:
        """Remove the state of a completed upload."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def _state_dir() -> Path:
    """Return the user's state directory, as the XDG Base Directory Specification defines it."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "ragsvc" / "uploads"

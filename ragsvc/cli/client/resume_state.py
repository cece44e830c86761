"""Remembers the upload sessions of files that were not sent to their end, so that the same command goes on."""

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
    """Where the id of a file's session is kept: a small file per identity, in the user's state directory."""

    place: Path

    @classmethod
    def of_file(cls, path: Path, *, base_url: str, fields: dict[str, Any]) -> Self:
        """Return the place for this very file, as it is now, on its way to this service with these fields."""
        stat = path.stat()
        identity = [str(path.resolve()), stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, base_url, fields]
        name = hashlib.sha256(orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)).hexdigest()
        return cls(_state_dir() / name)

    def read(self) -> str | None:
        """Return the session's id, None when there is none."""
        try:
            return self.place.read_text() or None
        except (OSError, UnicodeDecodeError):
            return None

    def write(self, upload_id: str) -> None:
        """Keep the session's id; without a place to write to, the upload only cannot be resumed."""
        with suppress(OSError):
            self.place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = self.place.with_name(f".{self.place.name}.{os.getpid()}")
            fresh.write_text(upload_id)
            fresh.replace(self.place)

    def forget(self) -> None:
        """Remove it: the file has arrived."""
        with suppress(OSError):
            self.place.unlink(missing_ok=True)


def _state_dir() -> Path:
    """Return the directory of the XDG Base Directory Specification for what outlives a command."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "ragsvc" / "uploads"

"""The generated passwords and keys of one data directory, readable by its owner only."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def _new_secret() -> str:
    # Only letters, digits, - and _, so that it needs no quoting in URLs and configuration files.
    return secrets.token_urlsafe(24)


@dataclass(frozen=True, slots=True)
class Secrets:
    """The credentials of the stack's servers."""

    postgres_password: str = field(default_factory=_new_secret)
    redis_password: str = field(default_factory=_new_secret)
    s3_access_key_id: str = field(default_factory=lambda: secrets.token_hex(10))
    s3_secret_access_key: str = field(default_factory=_new_secret)
    models_api_key: str = field(default_factory=_new_secret)
    admin_api_key: str = field(default_factory=_new_secret)


def load_secrets(path: Path) -> Secrets:
    """Return the secrets stored at `path`, generating missing ones."""
    stored = json.loads(path.read_text()) if path.exists() else {}
    known = {one.name for one in fields(Secrets)}
    loaded = Secrets(**{name: value for name, value in stored.items() if name in known})
    if asdict(loaded) != stored:
        write_private(path, json.dumps(asdict(loaded), indent=1))
    return loaded


def write_private(path: Path, content: str) -> None:
    """Replace a file atomically; only its owner can read it."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)

"""The user's configuration in ~/.config/ragsvc: the service of `ragsvc login`, and where `ragsvc dev` runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson

LOGIN = "login.json"
DEV = "dev.json"


def config_folder() -> Path:
    """Return the folder, which need not exist."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "ragsvc"


def read_login() -> dict[str, Any]:
    """Return the service and the keys of `ragsvc login`; empty without one."""
    return _read(LOGIN)


def write_login(base_url: str, *, api_key: str | None, admin_key: str | None) -> Path:
    """Store a service and its keys, readable by the user only, and return the file."""
    return _write(LOGIN, {"base_url": base_url, "api_key": api_key, "admin_key": admin_key})


def remove_login() -> bool:
    """Forget the service of `ragsvc login`; return whether there was one."""
    existed = (config_folder() / LOGIN).exists()
    (config_folder() / LOGIN).unlink(missing_ok=True)
    return existed


def read_dev_ready_file() -> Path | None:
    """Return the ready file of the `ragsvc dev` that started last; it exists only while that runs."""
    path = _read(DEV).get("ready_file")
    return Path(path) if isinstance(path, str) else None


def write_dev_ready_file(path: Path) -> None:
    """Store where the ready file of `ragsvc dev` is."""
    _write(DEV, {"ready_file": str(path)})


def _read(name: str) -> dict[str, Any]:
    try:
        value = orjson.loads((config_folder() / name).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return value if isinstance(value, dict) else {}


def _write(name: str, content: dict[str, Any]) -> Path:
    folder = config_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path, fresh = folder / name, folder / f".{name}.new"
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(orjson.dumps(content))
    fresh.replace(path)
    return path

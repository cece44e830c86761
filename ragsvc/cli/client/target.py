"""Determines which service a command calls, and with which keys.

In this order: RAGSVC_URL; the service of `ragsvc dev` in `.ragsvc` here or in a folder above; the service of
`ragsvc login`; the service of `ragsvc dev` anywhere else.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from ragsvc.cli.client import saved_config
from ragsvc.cli.exits import BadUsage

DEFAULT_URL = "http://127.0.0.1:8080"
READY_FILE = Path(".ragsvc/ready.json")


@dataclass(frozen=True, slots=True)
class Target:
    """A service and its keys; `origin` says what named the service."""

    base_url: str
    api_key: str | None
    admin_key: str | None
    origin: str = field(default="", compare=False)

    def key(self, *, admin: bool) -> str:
        """Return the key that a request needs.

        Raises:
            BadUsage: it is not set.
        """
        key, name = (self.admin_key, "RAGSVC_ADMIN_KEY") if admin else (self.api_key, "RAGSVC_API_KEY")
        if not key:
            raise BadUsage(
                f"{name} is not set, and no key for {self.base_url} is stored: set it, run `ragsvc login` or start"
                " `ragsvc dev`"
            )
        return key


def find_target() -> Target:
    """Return the service that the command is pointed at. Stored keys are used only for the service that they belong to.

    Raises:
        BadUsage: RAGSVC_URL is not a URL.
    """
    known = _known_services()
    given = os.environ.get("RAGSVC_URL")
    origin, first = next(iter(known), ("the default", {}))
    if given:
        origin = "RAGSVC_URL"
    base_url = (given or str(first.get("base_url") or DEFAULT_URL)).rstrip("/")
    if not base_url.startswith(("http://", "https://")):
        raise BadUsage(f"RAGSVC_URL must start with http:// or https://, but is {base_url!r}")
    own = next((one for _, one in known if str(one["base_url"]).rstrip("/") == base_url), {})
    admin_key = os.environ.get("RAGSVC_ADMIN_KEY") or os.environ.get("ADMIN_API_KEY") or own.get("admin_key")
    return Target(base_url, os.environ.get("RAGSVC_API_KEY") or own.get("api_key"), admin_key, origin)


def say_target(address: str, origin: str) -> None:
    """Say on stderr which service a command acts on."""
    print(f"on {address} (from {origin})", file=sys.stderr)


def find_ready_file() -> Path | None:
    """Return the ready file of a `ragsvc dev` in this folder or the nearest one above.

    Another user's file is ignored: it could name a server that collects keys.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        path = folder / READY_FILE
        try:
            if path.stat().st_uid == os.geteuid():
                return path
        except OSError:
            continue
    return None


def read_ready_file(path: Path | None) -> dict[str, Any]:
    """Return the content of the ready file of a running `ragsvc dev`; empty if there is none."""
    try:
        ready = orjson.loads(path.read_bytes()) if path else {}
    except (OSError, orjson.JSONDecodeError):
        return {}
    return ready if isinstance(ready, dict) else {}


def _known_services() -> list[tuple[str, dict[str, Any]]]:
    """Return the services whose keys are stored, with what names them, the nearest first."""
    path = find_ready_file()
    known = [
        (str(path), read_ready_file(path)),
        ("ragsvc login", saved_config.read_login()),
        ("ragsvc dev", read_ready_file(saved_config.read_dev_ready_file())),
    ]
    return [(origin, one) for origin, one in known if one.get("base_url")]

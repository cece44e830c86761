"""Debian packages of documentation, downloaded and unpacked into a cache folder, never installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

PACKAGES = (
    "debian-faq",
    "debian-reference-en",
    "developers-reference",
    "git-doc",
    "python3-doc",
    "sqlite3-doc",
)


class PackagesMissing(Exception):
    """The documentation packages are not available; the message says why and what to do."""


def unpack_packages(cache: Path) -> Path:
    """Return the folder of the unpacked packages; they are downloaded once.

    Raises:
        PackagesMissing: apt is missing or cannot download packages.
    """
    unpacked = cache / "packages"
    if unpacked.exists():
        return unpacked
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise PackagesMissing(
            "The evaluation reads documentation from Debian packages and needs apt-get and dpkg-deb. On another"
            f" system unpack {', '.join(PACKAGES)} (with what they depend on) into {unpacked} by other means."
        )
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        names = [name for package in PACKAGES for name in (package, *_documents_of(package))]
        _run("apt-get", "--quiet", "download", *names, folder=folder)
        for archive in sorted(Path(folder).glob("*.deb")):
            _run("dpkg-deb", "--extract", archive.name, "unpacked", folder=folder)
        # Renamed at the end, so that the folder is always complete.
        (Path(folder) / "unpacked").rename(unpacked)
    return unpacked


def _documents_of(package: str) -> list[str]:
    """Return the documentation packages that a package depends on; python3-doc depends on that of one version."""
    said = _run("apt-cache", "depends", "--important", package)
    depended = [line.split()[-1] for line in said.splitlines() if "Depends:" in line]
    return [name for name in depended if name.endswith("-doc")]


def _run(*command: str, folder: str | None = None) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise PackagesMissing(
            f"`{' '.join(command)}` failed: {done.stderr.strip() or done.stdout.strip()}\n"
            "If apt does not know the packages, `apt-get update` may help."
        )
    return done.stdout

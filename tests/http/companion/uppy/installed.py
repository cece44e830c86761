"""Installs Uppy and jsdom from npm into a folder that later runs reuse."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

# The packages by major version of Uppy: 6 is current; 5 splits and signs differently, and is still widely used.
PACKAGES = {
    6: ("@uppy/core@6.3.1", "@uppy/aws-s3@6.3.1", "jsdom@27.4.0"),
    5: ("@uppy/core@5.2.0", "@uppy/aws-s3@5.1.0", "jsdom@27.4.0"),
}
INSTALL_S = 300


def install_uppy(major: int) -> Path:
    """Return the folder whose node_modules has Uppy; skip the test if node or npm is missing."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    packages = PACKAGES[major]
    folder = Path(tempfile.gettempdir()) / f"ragsvc-uppy-{os.geteuid()}-{packages[1].rpartition('@')[2]}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        # Parallel test processes share the folder.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), *packages]
            done = subprocess.run(install, check=False, capture_output=True, text=True, timeout=INSTALL_S)  # noqa: S603 - a fixed command
            if done.returncode != 0:
                pytest.skip(f"npm could not install Uppy: {done.stderr.strip() or done.stdout.strip()}")
            (folder / "installed").touch()
    return folder

"""The test servers, one set of which is shared by all processes that run tests of this checkout."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.locks import is_locked, locked, try_lock

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.05
MIN_MEMORY_BYTES = 8 * 1024**3


@dataclass(frozen=True, slots=True)
class Servers:
    """The addresses and credentials of the servers."""

    postgres_url: str
    redis_url: str
    s3_url: str
    s3_access_key_id: str
    s3_secret_access_key: str
    models_url: str
    models_api_key: str
    tokenizer: str


def folder() -> Path:
    """Return the folder for this checkout's servers; other users, such as Postgres's, can only traverse it."""
    name = hashlib.sha256(os.fsencode(ROOT)).hexdigest()[:12]
    path = _base() / f"ragsvc-tests-{os.geteuid()}-{name}"
    path.mkdir(mode=0o711, exist_ok=True)
    if path.is_symlink() or path.stat().st_uid != os.geteuid():
        raise RuntimeError(f"{path} belongs to another user")
    (path / "users").mkdir(exist_ok=True)
    return path


def _base() -> Path:
    """Return a folder in memory, where databases are created faster, unless TMPDIR is set or memory is short."""
    in_memory = Path("/dev/shm")  # noqa: S108 - the folder in it is checked
    if (
        "TMPDIR" not in os.environ
        and in_memory.is_dir()
        and os.access(in_memory, os.W_OK)
        and shutil.disk_usage(in_memory).total >= MIN_MEMORY_BYTES
    ):
        return in_memory
    return Path(tempfile.gettempdir())


def join(cache: Path) -> Iterator[Servers]:
    """Start the servers unless they are already running, and yield them; they stop after the last process has left."""
    home = folder()
    user = home / "users" / f"{os.getpid()}-{uuid.uuid4().hex}"
    with locked(home / "start.lock"):
        held = try_lock(user)
        assert held is not None
        if not (is_locked(home / "supervisor.lock") and (home / "servers.json").exists()):
            _start_supervisor(home, cache)
        servers = Servers(**json.loads((home / "servers.json").read_text()))
    yield servers
    user.unlink()
    os.close(held)


def wait_until_stopped() -> None:
    """Wait until the servers have stopped, unless another process still uses them."""
    home = folder()
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while is_locked(home / "supervisor.lock") and not any(is_locked(user) for user in (home / "users").iterdir()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the test servers of {home} did not stop")
        time.sleep(POLL_S)


def _start_supervisor(home: Path, cache: Path) -> None:
    """Wait for a supervisor that is stopping, start a new one, and wait until it has written the addresses."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while is_locked(home / "supervisor.lock"):
        _check(deadline, "the previous test servers did not stop")
    addresses = home / "servers.json"
    addresses.unlink(missing_ok=True)
    log = home / "supervisor.log"
    with log.open("wb") as output:
        supervisor = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "tests.support.servers.supervisor", str(home), str(cache)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    while not addresses.exists():
        if supervisor.poll() is not None:
            raise RuntimeError(f"the test servers did not start:\n{log.read_text()}")
        _check(deadline, "the test servers are not ready")
    # The supervisor outlives this process; without a return code, Popen would warn when it is collected.
    supervisor.returncode = 0


def _check(deadline: float, message: str) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(message)
    time.sleep(POLL_S)

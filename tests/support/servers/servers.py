"""The test servers as a test process sees them: one set, shared by all processes that run tests of this checkout."""

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
ROOM_BYTES = 8 * 1024**3


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the servers are, and what opens them."""

    postgres_url: str
    redis_url: str
    s3_url: str
    s3_access_key_id: str
    s3_secret_access_key: str
    models_url: str
    models_api_key: str
    tokenizer: str


def folder() -> Path:
    """Return this checkout's folder for the servers' data; Postgres's user can reach it, nobody else can fill it."""
    name = hashlib.sha256(os.fsencode(ROOT)).hexdigest()[:12]
    path = _base() / f"ragsvc-tests-{os.geteuid()}-{name}"
    path.mkdir(mode=0o711, exist_ok=True)
    if path.is_symlink() or path.stat().st_uid != os.geteuid():
        raise RuntimeError(f"{path} belongs to somebody else")
    (path / "users").mkdir(exist_ok=True)
    return path


def _base() -> Path:
    """Return a place in memory, unless TMPDIR names another or there is no room: a database is made sooner there."""
    in_memory = Path("/dev/shm")  # noqa: S108 - the folder in it is checked
    if (
        "TMPDIR" not in os.environ
        and in_memory.is_dir()
        and os.access(in_memory, os.W_OK)
        and shutil.disk_usage(in_memory).total >= ROOM_BYTES
    ):
        return in_memory
    return Path(tempfile.gettempdir())


def join(cache: Path) -> Iterator[Servers]:
    """Start the servers unless they run, yield them, and leave; the last one out has them stopped."""
    home = folder()
    user = home / "users" / f"{os.getpid()}-{uuid.uuid4().hex}"
    with locked(home / "start.lock"):
        held = try_lock(user)
        assert held is not None
        if not (is_locked(home / "keeper.lock") and (home / "servers.json").exists()):
            _start_keeper(home, cache)
        servers = Servers(**json.loads((home / "servers.json").read_text()))
    yield servers
    user.unlink()
    os.close(held)


def wait_until_stopped() -> None:
    """Wait for the servers' end, unless tests go on in another process."""
    home = folder()
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while is_locked(home / "keeper.lock") and not any(is_locked(user) for user in (home / "users").iterdir()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the test servers of {home} do not stop")
        time.sleep(POLL_S)


def _start_keeper(home: Path, cache: Path) -> None:
    """Wait for a keeper that is stopping, start the next one, and wait until it tells where the servers are."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while is_locked(home / "keeper.lock"):
        _check(deadline, "the last test servers do not stop")
    told = home / "servers.json"
    told.unlink(missing_ok=True)
    log = home / "keeper.log"
    with log.open("wb") as output:
        keeper = subprocess.Popen(  # noqa: S603  # the command is ours
            [sys.executable, "-m", "tests.support.servers.keeper", str(home), str(cache)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    while not told.exists():
        if keeper.poll() is not None:
            raise RuntimeError(f"the test servers did not start:\n{log.read_text()}")
        _check(deadline, "the test servers are not ready")
    # It outlives this process: else the object would complain of that when it is collected.
    keeper.returncode = 0


def _check(deadline: float, message: str) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(message)
    time.sleep(POLL_S)

"""`ragsvc dev` in a process, which a test observes through its ready file."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragsvc.devstack.process import started_at
from tests.support.polling import until
from tests.support.servers.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

READY_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 60.0


class Stack:
    """A data directory, and the supervisor process that can be started and stopped on it."""

    def __init__(self, root: Path, *, options: Sequence[str] = (), env: Mapping[str, str] | None = None) -> None:
        self.root = root
        self.data_dir = root / "data"
        self.ready_file = root / "ready.json"
        self.prefix: tuple[str, ...] = ()
        self._output = root / "output"
        self._options = options
        self._env = env or {}
        self._process: asyncio.subprocess.Process | None = None

    @property
    def supervisor(self) -> asyncio.subprocess.Process:
        """The process of `ragsvc dev`."""
        assert self._process is not None
        return self._process

    @property
    def command(self) -> tuple[str, ...]:
        """The command line."""
        return (
            *self.prefix,
            *(sys.executable, "-m", "ragsvc", "dev", "--port", "0"),
            *("--data-dir", str(self.data_dir), "--ready-file", str(self.ready_file)),
            *self._options,
        )

    def make_folders(self, cache: Path) -> None:
        """Create the folders that exist before the first start."""
        self.root.chmod(0o711)
        self.data_dir.mkdir()
        (self.data_dir / "cache").symlink_to(cache)

    def give_away(self, uid: int) -> None:
        """Make another user the owner of the folders."""
        for folder in (self.data_dir.parent, self.data_dir):
            os.chown(folder, uid, uid)

    async def start(self) -> dict[str, Any]:
        """Start the supervisor and return the content of the ready file."""
        await self.spawn()
        return await until(self._ready, timeout_s=READY_TIMEOUT_S, what="the ready file")

    async def spawn(self) -> None:
        """Start the supervisor without waiting until it is ready."""
        with self._output.open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                cwd=ROOT,
                env={**os.environ, "PORT": "", **self._env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the supervisor and return its exit code."""
        if self.supervisor.returncode is None:
            self.supervisor.send_signal(number)
        async with asyncio.timeout(STOP_TIMEOUT_S):
            return await self.supervisor.wait()

    def read(self) -> dict[str, Any] | None:
        """Return the content of the ready file, or None if there is no file."""
        try:
            content: dict[str, Any] = json.loads(self.ready_file.read_text())
        except FileNotFoundError:
            return None
        return content

    def list_pid_files(self) -> list[Path]:
        """Return the pid files of the running processes."""
        return list((self.data_dir / "run").iterdir())

    def output(self) -> str:
        """Return the output of the supervisor."""
        return self._output.read_text()

    def _ready(self) -> dict[str, Any] | None:
        assert self.supervisor.returncode is None, self.output()
        ready = self.read()
        # A killed supervisor leaves its ready file behind.
        return ready if ready and ready["supervisor_pid"] == self.supervisor.pid else None


@asynccontextmanager
async def new_stack(
    cache: Path, *, options: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> AsyncIterator[Stack]:
    """Yield a stack that is not started yet; it takes its models from `cache` instead of building them again."""
    stack = Stack(Path(tempfile.mkdtemp(prefix="ragsvc-test-")), options=options, env=env)
    stack.make_folders(cache)
    try:
        yield stack
    finally:
        if stack._process is not None:
            await stack.stop()
        shutil.rmtree(stack.root)


def all_pids(ready: dict[str, Any]) -> set[int]:
    """Return the pids of every child in a ready file."""
    pids: set[int] = set()
    for value in ready["pids"].values():
        pids |= set(value) if isinstance(value, list) else {value} - {None}
    return pids


def alive(pids: set[int]) -> set[int]:
    """Return the pids of the running processes; zombies do not count."""
    return {pid for pid in pids if started_at(pid) is not None}

"""Child processes that cannot outlive their parent, are found again by pid file, and are stopped reliably."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ragsvc.errors.base import StartupRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

POLL_S = 0.05
LEFTOVER_GRACE_S = 3.0
PR_SET_PDEATHSIG = 1
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_libc = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command line. `env` is the complete environment, `log` receives both outputs, `uid` drops root privileges."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    log: Path
    cwd: Path | None = None
    stdin: Path = Path(os.devnull)
    stop_signal: signal.Signals = signal.SIGTERM
    grace_s: float = 10.0
    uid: int | None = None
    gid: int | None = None


class Process:
    """A running child in its own process group."""

    def __init__(self, command: Command, popen: subprocess.Popen[bytes], *, pid_file: Path, log_start: int) -> None:
        self.command = command
        self.pid = popen.pid
        self.started = time.monotonic()
        self._popen = popen
        self._pid_file = pid_file
        self._log_start = log_start

    @property
    def exit_code(self) -> int | None:
        """The exit code (negative: the signal) once `wait` or `stop` has returned."""
        return self._popen.returncode

    def is_running(self) -> bool:
        """Return whether the child is alive, without reaping it, so that its group id remains taken until `wait`."""
        if self._popen.returncode is not None:
            return False
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def output(self) -> str:
        """Return what this child has logged so far."""
        with self.command.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    async def wait(self) -> int:
        """Wait for the child to exit, kill the rest of its group, and return the exit code."""
        while self.is_running():  # noqa: ASYNC110  # another process exits: there is no event to wait for
            await asyncio.sleep(POLL_S)
        if self._popen.returncode is None:
            self.kill()
            self._popen.wait()
            self._pid_file.unlink(missing_ok=True)
        return self._popen.returncode

    async def stop(self) -> None:
        """Ask the child to stop, and kill its group after the grace period."""
        if self.is_running():
            os.kill(self.pid, self.command.stop_signal)
        try:
            async with asyncio.timeout(self.command.grace_s):
                await self.wait()
        except TimeoutError:
            self.kill()
            await self.wait()

    def kill(self) -> None:
        """Kill the child's whole group; `wait` must still be called."""
        if self._popen.returncode is None:
            _signal_group(self.pid, signal.SIGKILL)


def spawn(command: Command, run_dir: Path) -> Process:
    """Start a child and write its pid file into `run_dir`; call it from the main thread only.

    The kernel sends the child its stop signal when the *thread* that started it ends for any reason.
    """
    with command.log.open("ab") as log, command.stdin.open("rb") as stdin:
        log_start = log.tell()
        popen = subprocess.Popen(  # noqa: S603  # the commands are ours
            command.argv,
            env=dict(command.env),
            cwd=command.cwd,
            stdin=stdin,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # Only two system calls, so it cannot wait for a lock that another thread held at the fork.
            preexec_fn=_DieWithParent(command.stop_signal),  # noqa: PLW1509
            user=command.uid,
            group=command.gid,
            extra_groups=None if command.uid is None else [],
        )
    pid_file = run_dir / f"{command.name}.pid"
    _write_pid_file(pid_file, popen.pid, stop_signal=command.stop_signal)
    return Process(command, popen, pid_file=pid_file, log_start=log_start)


async def run(command: Command, run_dir: Path) -> None:
    """Run a command until it exits.

    Raises:
        StartupRefused: it failed; the message ends with its last output.
    """
    process = spawn(command, run_dir)
    try:
        code = await process.wait()
    except asyncio.CancelledError:
        await process.stop()
        raise
    if code != 0:
        raise StartupRefused(f"{command.name} failed with exit code {code}: {last_words(process)}")


def last_words(process: Process, *, lines: int = 5) -> str:
    """Return the last lines that a child logged, and the path of its log."""
    said = process.output().strip().splitlines()[-lines:]
    return f"{' / '.join(said) or 'no output'} (see {process.command.log})"


async def stop_leftovers(run_dir: Path) -> list[str]:
    """Stop processes that an earlier supervisor left running, and return their names.

    A pid file identifies a process by pid, start time and boot, so that a reused pid is left alone.
    """
    found = _find_leftovers(run_dir)
    for _path, pid, stop_signal in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, stop_signal)
    deadline = time.monotonic() + LEFTOVER_GRACE_S
    for path, pid, _stop_signal in found:
        while _read_pid_file(path):
            if time.monotonic() > deadline:
                _signal_group(pid, signal.SIGKILL)
            await asyncio.sleep(POLL_S)
    _forget(run_dir)
    return [path.stem for path, _pid, _stop_signal in found]


def _find_leftovers(run_dir: Path) -> list[tuple[Path, int, signal.Signals]]:
    return [(path, *known) for path in sorted(run_dir.glob("*.pid")) if (known := _read_pid_file(path))]


def _forget(run_dir: Path) -> None:
    for path in run_dir.glob("*.pid"):
        path.unlink(missing_ok=True)


def started_at(pid: int) -> int | None:
    """Return a process's start time in clock ticks since boot; None if it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses can contain anything, even a parenthesis.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in {"Z", "X"} else int(fields[18])


class _DieWithParent:
    """Runs in the child before exec: asks the kernel to signal the child when the parent dies."""

    def __init__(self, number: signal.Signals) -> None:
        self._number = int(number)
        self._parent = os.getpid()

    def __call__(self) -> None:
        _libc.prctl(PR_SET_PDEATHSIG, self._number, 0, 0, 0)
        if os.getppid() != self._parent:  # the parent died before the request
            os._exit(1)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _write_pid_file(path: Path, pid: int, *, stop_signal: signal.Signals) -> None:
    known = {
        "pid": pid,
        "started_at": started_at(pid),
        "boot_id": BOOT_ID.read_text().strip(),
        "stop_signal": int(stop_signal),
    }
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(known))
    fresh.replace(path)


def _read_pid_file(path: Path) -> tuple[int, signal.Signals] | None:
    """Return pid and stop signal of the process in a pid file; None unless that process is alive."""
    try:
        known = json.loads(path.read_text())
        alive = known["boot_id"] == BOOT_ID.read_text().strip() and known["started_at"] is not None
        if alive and started_at(known["pid"]) == known["started_at"]:
            return known["pid"], signal.Signals(known["stop_signal"])
    except (ValueError, KeyError, TypeError, FileNotFoundError):
        return None
    return None

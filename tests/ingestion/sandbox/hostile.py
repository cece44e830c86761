"""Functions that misbehave as a parser could; the sandbox runs them by name."""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import os
import pickle
import resource
import signal
import socket
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path

from ragsvc.errors.work import DocumentRejected
from ragsvc.ingestion.parsing.progress import Progress


def echo(value: object) -> object:
    """Return the value."""
    return value


def hang(started: Path) -> None:
    """Sleep forever with SIGTERM blocked."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    started.write_text(str(os.getpid()))
    while True:
        time.sleep(60)


def spin(started: Path) -> None:
    """Loop forever, using a full CPU core."""
    started.write_text(str(os.getpid()))
    while True:
        pass


def spin_with_progress(into: Path, progress: Path) -> None:
    """Report progress once, then loop forever."""
    Progress(progress).report(1, 2)
    spin(into)


def segfault(log: Path) -> None:
    """Log the process id and read from an invalid address."""
    with log.open("a") as file:
        file.write(f"{os.getpid()}\n")
    ctypes.string_at(0)


def segfault_once(log: Path) -> int:
    """Crash on the first call; return the process id on the second."""
    attempts = log.read_text().count("\n") if log.exists() else 0
    if attempts == 0:
        segfault(log)
    return os.getpid()


def exhaust_memory() -> int:
    """Allocate memory until it runs out."""
    eaten = []
    while True:
        eaten.append(bytearray(64 * 1024 * 1024))


def abort_in_native_code() -> None:
    """Abort, as a native parser does when it is out of memory."""
    os.abort()


def write_too_much(path: Path) -> None:
    """Write to a file until that fails."""
    with path.open("wb") as file:
        while True:
            file.write(bytes(64 * 1024 * 1024))


def raise_unexpected() -> None:
    """Fail like a parser with a bug."""
    raise ZeroDivisionError("secret words of the document")


def reject() -> None:
    """Refuse the document."""
    raise DocumentRejected("corrupt", "it is")


def inspect_process() -> dict[str, object]:
    """Return what this process can access, and its limits."""
    return {
        "pid": os.getpid(),
        "environ": dict(os.environ),
        "proc_environ": Path("/proc/self/environ").read_bytes().strip(b"\0").decode(),
        "sockets": [number for number in _open_files() if number > 2 and _is_socket(number)],
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "address_space": resource.getrlimit(resource.RLIMIT_AS),
        "parsers_loaded": "pypdfium2" in sys.modules,
        "mapped_bytes": int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize(),
        "status": Path("/proc/self/status").read_text(),
    }


def inspect_ancestors() -> list[dict[str, object]]:
    """Return the environments of the fork server and the worker, as far as this process can read them."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    return [
        {"pid": pid, "environ": Path(f"/proc/{pid}/environ").read_bytes().strip(b"\0").decode()}
        for pid in (os.getppid(), parent.pid)
    ]


def _open_files() -> list[int]:
    return [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]


def _is_socket(number: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:
        return False


class Trap:
    """Runs code in whoever unpickles it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        """Create the file when unpickled."""
        return exec, (f"open({str(self._path)!r}, 'w').close()",)


def return_trap(path: Path) -> Trap:
    """Return an object that runs code when it is unpickled."""
    return Trap(path)


def send_trap(path: Path) -> None:
    """Write a pickle to every open pipe, as code that has taken over the process could."""
    content = pickle.dumps(Trap(path))
    for number in range(3, 64):
        with suppress(OSError):
            if stat.S_ISFIFO(os.fstat(number).st_mode):
                os.write(number, len(content).to_bytes(4, "big") + content)
    time.sleep(60)


def open_socket() -> str:
    """Return the name of the error that a socket causes."""
    try:
        socket.socket().close()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "none"


def link_result(into: Path, target: Path) -> None:
    """Return a link to a file instead of a result."""
    into.symlink_to(target)


def write_pipe(into: Path) -> None:
    """Return a pipe that nobody writes to instead of a result."""
    os.mkfifo(into)

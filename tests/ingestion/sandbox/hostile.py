"""What a parser could do to its process; the sandbox runs these by name."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import resource
import signal
import stat
import sys
import time
from pathlib import Path

from ragsvc.errors import DocumentRejected
from ragsvc.ingestion.parsing.progress import Progress


def answer(value: object) -> object:
    """Do nothing wrong."""
    return value


def hang(started: Path) -> None:
    """Never come back, deaf to signals that a handler could hear."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    started.write_text(str(os.getpid()))
    while True:
        time.sleep(60)


def spin(started: Path) -> None:
    """Never come back either, and burn the processor."""
    started.write_text(str(os.getpid()))
    while True:
        pass


def spin_into(into: Path, progress: Path) -> None:
    """Do so as a task that says how far it is."""
    Progress(progress).report(1, 2)
    spin(into)


def segfault(log: Path) -> None:
    """Read where nothing is."""
    with log.open("a") as file:
        file.write(f"{os.getpid()}\n")
    ctypes.string_at(0)


def segfault_once(log: Path) -> int:
    """Die the first time, answer the second."""
    attempts = log.read_text().count("\n") if log.exists() else 0
    if attempts == 0:
        segfault(log)
    return os.getpid()


def eat_memory() -> int:
    """Take more memory than there is."""
    eaten = []
    while True:
        eaten.append(bytearray(64 * 1024 * 1024))


def abort_in_native_code() -> None:
    """Do as a native parser does when it finds no memory."""
    os.abort()


def write_too_much(path: Path) -> None:
    """Fill the disk."""
    with path.open("wb") as file:
        while True:
            file.write(bytes(64 * 1024 * 1024))


def raise_unforeseen() -> None:
    """Fail as a parser with a bug does."""
    raise ZeroDivisionError("secret words of the document")


def reject() -> None:
    """Refuse the document."""
    raise DocumentRejected("corrupt", "it is")


def look_around() -> dict[str, object]:
    """Return what the process can see and do."""
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


def look_at_others() -> list[dict[str, object]]:
    """Return what the process can read of its fork server's and its worker's environment."""
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

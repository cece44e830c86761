"""Several processes of the same command: restarted when they die, stopped together."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import tempfile
import time
from typing import TYPE_CHECKING

import structlog
from prometheus_client.multiprocess import mark_process_dead

from ragsvc.cli.exits import REFUSED, USAGE
from ragsvc.telemetry.exposition import SHARED_FOLDER
from ragsvc.telemetry.metrics import FLEET_SLOT

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Sequence

PR_SET_PDEATHSIG = 1
# A process that exits with one of these at start (no settings, no database) would only fail again if it were restarted.
GAVE_UP = frozenset({REFUSED, USAGE})
RESTART_INTERVAL_S = 2.0

log = structlog.get_logger(__name__)
_libc = ctypes.CDLL(None)


class Fleet:
    """A number of processes of `python -m ragsvc …`."""

    def __init__(self, args: Sequence[str], size: int) -> None:
        self._args = args
        self._size = size
        self._running: set[Process] = set()
        self._stopping = asyncio.Event()
        self._environment = dict(os.environ)

    async def run(self) -> int:
        """Run like `_run`, with a folder in which the processes share their metrics."""
        with tempfile.TemporaryDirectory(prefix="ragsvc-metrics-") as folder:
            self._environment[SHARED_FOLDER] = folder
            return await self._run()

    async def _run(self) -> int:
        """Run until SIGTERM or SIGINT, then stop every process and return 0.

        If a process fails at its first start, stop the others and return its exit code.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        codes = await asyncio.gather(*(self._supervise(slot) for slot in range(self._size)))
        return next((code for code in codes if code), 0)

    async def _supervise(self, slot: int) -> int:
        is_first = True
        while not self._stopping.is_set():
            started = time.monotonic()
            code = await self._run_one(slot)
            if self._stopping.is_set():
                break
            if is_first and code in GAVE_UP:
                self._stop()
                return code
            is_first = False
            lived_s = time.monotonic() - started
            log.warning("process_restarted", exit_code=code, lived_s=round(lived_s, 1))
            await asyncio.sleep(max(RESTART_INTERVAL_S - lived_s, 0))
        return 0

    async def _run_one(self, slot: int) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "ragsvc",
            *self._args,
            env={**self._environment, FLEET_SLOT: str(slot)},
            # Ctrl-C in a terminal signals the whole process group; a second signal would cut the grace period short.
            start_new_session=True,
            preexec_fn=_die_with_parent,  # a single system call
        )
        self._running.add(process)
        if self._stopping.is_set():
            self._stop()  # the signal arrived during the start
        try:
            return await process.wait()
        finally:
            self._running.discard(process)
            # Removes the gauges of what the process had open, but not its counters.
            mark_process_dead(slot, self._environment[SHARED_FOLDER])  # type: ignore[no-untyped-call]

    def _stop(self) -> None:
        self._stopping.set()
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)

"""Separate API processes, to test signals, ports and memory."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from tests.support.environment import variables_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.settings.settings import Settings

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


def environment(settings: Settings, **changes: str) -> dict[str, str]:
    """Return the environment variables for a process with these settings."""
    return {"PATH": os.environ["PATH"], **variables_of(settings), "LOG_FORMAT": "json", "PORT": "0", **changes}


class ApiProcess:
    """A running `ragsvc serve`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []
        self.raw_log = b""
        self._changed = asyncio.Event()
        self._reading = asyncio.create_task(self._read_log())

    async def started(self) -> str:
        """Wait until the process listens, and return its URL."""
        event = await self.logged("api_started", timeout_s=START_TIMEOUT_S)
        return f"http://{event['host']}:{event['port']}"

    async def logged(self, name: str, *, timeout_s: float = 10.0) -> dict[str, Any]:
        """Wait for the first log event with this name, and return it."""
        async with asyncio.timeout(timeout_s):
            while True:
                self._changed.clear()
                found = next((event for event in self.events if event.get("event") == name), None)
                if found is not None:
                    return found
                if self._reading.done():
                    raise AssertionError(f"{name} was never logged: {self.raw_log.decode()}")
                await self._changed.wait()

    async def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await self.exit_code()

    async def exit_code(self) -> int:
        """Wait until the process has exited and its log is read, and return the exit code."""
        code = await asyncio.wait_for(self.process.wait(), STOP_TIMEOUT_S)
        await self._reading
        return code

    def peak_memory_bytes(self) -> int:
        """Return the process's peak resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024

    async def _read_log(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.raw_log += line
            if line.startswith(b"{"):
                self.events.append(orjson.loads(line))
            self._changed.set()
        self._changed.set()


@asynccontextmanager
async def serving(settings: Settings, *arguments: str, patch: str = "", **changes: str) -> AsyncIterator[ApiProcess]:
    """Run `ragsvc serve`, and kill it at the end if it is still running; `patch` is Python code to run first."""
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-c",
            f"{patch}\nfrom ragsvc.__main__ import main\nmain()",
            "serve",
            *arguments,
        ),
        env=environment(settings, **changes),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    api = ApiProcess(process)
    try:
        yield api
    finally:
        if process.returncode is None:
            process.kill()
        await api.exit_code()

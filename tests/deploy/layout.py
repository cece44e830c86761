"""The processes of deploy/Procfile, run as in production: the migration, then two APIs behind Caddy and the workers."""

from __future__ import annotations

import asyncio
import shlex
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ragsvc.devstack.ports import LOOPBACK, answers, free_ports, listens
from ragsvc.devstack.process import Command, run, spawn
from tests.deploy.files import BIN, read_procfile
from tests.faults.support.fleet import environment
from tests.support.polling import until
from tests.support.servers.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ragsvc.devstack.process import Process
    from ragsvc.settings.settings import Settings

APIS = ("api-1", "api-2")
WORKERS = ("ingestion-1", "deletion-1")
PROXY = "proxy-1"
# Takes seconds on an idle machine.
STARTED_S = 120.0
# As in the manifests: API_GRACE_S or WORKER_GRACE_S, plus the time to shut down.
GRACE_S = 40.0


@dataclass(slots=True)
class Layout:
    """The running processes, each named after its line in the Procfile and a number."""

    settings: Settings
    folder: Path
    ports: dict[str, int]
    metrics_ports: dict[str, int]
    processes: dict[str, Process] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The URL of the load balancer, which clients use."""
        return f"http://{LOOPBACK}:{self.ports[PROXY]}"

    def alive_file(self, name: str) -> Path:
        """Return the path of the file that a worker touches."""
        return self.folder / f"{name}.alive"

    async def release(self) -> None:
        """Apply the migrations."""
        await run(self._command("release"), self.folder)

    async def start(self, *names: str) -> None:
        """Start processes and wait until they are ready."""
        for name in names:
            self.processes[name] = spawn(self._command(name), self.folder)
        await asyncio.gather(*(self._until_ready(name) for name in names))

    async def restart(self, name: str) -> tuple[float, float]:
        """Stop a process with SIGTERM and start it again; return the duration of both in seconds.

        Raises:
            AssertionError: it did not exit by itself, or not with 0.
        """
        began = time.monotonic()
        process = self.processes[name]
        await process.stop()
        assert process.exit_code == 0, (name, process.exit_code, process.output()[-2000:])
        stopped = time.monotonic()
        await self.start(name)
        return stopped - began, time.monotonic() - stopped

    async def stop(self) -> None:
        """Stop everything."""
        await asyncio.gather(*(process.stop() for process in self.processes.values()))

    def _command(self, name: str) -> Command:
        program, *arguments = shlex.split(read_procfile()[name.partition("-")[0]])
        env = environment(self.settings) | {
            "LOG_FORMAT": "json",
            "HOST": LOOPBACK,
            "PORT": str(self.ports.get(name, 0)),
            "METRICS_PORT": str(self.metrics_ports.get(name, "")),
            "WORKER_ALIVE_FILE": str(self.alive_file(name)),
            # For Caddy.
            "HOME": str(self.folder),
            "BIND_ADDRESS": LOOPBACK,
            "SITE_ADDRESS": f":{self.ports[PROXY]}",
            "API_UPSTREAMS": " ".join(f"{LOOPBACK}:{self.ports[api]}" for api in APIS),
        }
        log = self.folder / f"{name}.log"
        return Command(name=name, argv=(str(BIN / program), *arguments), env=env, log=log, cwd=ROOT, grace_s=GRACE_S)

    async def _until_ready(self, name: str) -> None:
        process = self.processes[name]

        async def is_ready() -> bool:
            assert process.is_running(), process.output()[-2000:]
            match name.partition("-")[0]:
                case "api":
                    return listens(process.pid, self.ports[name]) and await answers(self.ports[name], "/readyz")
                case "proxy":
                    return await answers(self.ports[name], "/readyz")
                case _:
                    return "worker_started" in process.output()

        await until(is_ready, timeout_s=STARTED_S, what=name)


@asynccontextmanager
async def open_layout(settings: Settings, folder: Path) -> AsyncIterator[Layout]:
    """Run the whole layout on an empty database."""
    listening, measured = (*APIS, PROXY), (*APIS, *WORKERS)
    ports = dict(zip(listening, free_ports(len(listening)), strict=True))
    layout = Layout(settings, folder, ports, dict(zip(measured, free_ports(len(measured)), strict=True)))
    try:
        await layout.release()
        await layout.start(*APIS, *WORKERS)
        await layout.start(PROXY)
        yield layout
    finally:
        await layout.stop()

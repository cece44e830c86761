"""The service's processes as parts of the stack: plain commands, configured by environment variables only."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ragsvc.devstack.ports import answers, listens
from ragsvc.devstack.process import Command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ragsvc.devstack.process import Process

# Slightly more than the defaults of API_GRACE_S and WORKER_GRACE_S.
GRACE_S = 30.0
# With LOG_LEVEL above info, a worker does not log its start and is presumed ready after this time.
SILENT_START_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """An API process; several can share a port."""

    name: str
    port: int
    shares_port: bool
    env: Mapping[str, str]
    logs: Path

    async def prepare(self) -> Command:
        """Return the command."""
        flags = ("--reuse-port",) if self.shares_port else ()
        argv = (sys.executable, "-m", "ragsvc", "serve", *flags)
        return Command(name=self.name, argv=argv, env=self.env, log=self.logs / f"{self.name}.log", grace_s=GRACE_S)

    async def is_ready(self, process: Process) -> bool:
        """Return whether this process listens and the service is ready."""
        return listens(process.pid, self.port) and await answers(self.port, "/readyz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker process."""

    name: str
    settings_class: str
    env: Mapping[str, str]
    logs: Path

    async def prepare(self) -> Command:
        """Return the command."""
        arq = Path(sys.executable).parent / "arq"
        argv = (str(arq), f"ragsvc.workers.{self.settings_class}")
        return Command(name=self.name, argv=argv, env=self.env, log=self.logs / f"{self.name}.log", grace_s=GRACE_S)

    async def is_ready(self, process: Process) -> bool:
        """Return whether the worker has logged its start."""
        if self.env.get("LOG_LEVEL", "info") not in {"debug", "info"}:
            return time.monotonic() - process.started > SILENT_START_S
        return "worker_started" in process.output()

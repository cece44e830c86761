"""Supervises the whole stack: starts it in order, restarts what dies, writes the ready files, stops it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ragsvc.devstack.environment import (
    listen_address,
    own_parts,
    service_environment,
    worker_environment,
)
from ragsvc.devstack.parts.services import Api, Worker
from ragsvc.devstack.ports import LOOPBACK, free_ports, is_free
from ragsvc.devstack.process import Command, run, stop_leftovers
from ragsvc.devstack.ready_file import SINGLE, Access, remove_ready_files, write_ready_files
from ragsvc.devstack.secrets import load_secrets
from ragsvc.devstack.stack import make_parts, open_folders, start
from ragsvc.errors.base import StartupRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from ragsvc.devstack.process import Process
    from ragsvc.devstack.stack import Folders, Part

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0
# A child that ran this long is restarted with the shortest delay again.
STEADY_S = 10.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of `ragsvc dev`; port 0 picks a free one."""

    data_dir: Path
    port: int
    ready_file: Path | None = None
    api_workers: int = 1
    ingestion_workers: int = 1
    deletion_workers: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """A group child; `kind` is its key in the ready file."""

    kind: str
    part: Part


@dataclass(slots=True)
class Supervisor:
    """One run of the stack. `report` receives progress lines, `announce` the address of the ready stack."""

    options: Options
    report: Callable[[str], None]
    announce: Callable[[Access], None]
    given: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    _folders: Folders = field(init=False)
    _access: Access | None = field(init=False, default=None)
    _running: dict[Unit, Process] = field(init=False, default_factory=dict)
    _stopping: asyncio.Event = field(init=False, default_factory=asyncio.Event)

    async def run(self) -> None:
        """Run the stack until SIGINT, SIGTERM or SIGHUP; a second one kills what has not stopped yet.

        Raises:
            StartupRefused: it cannot be started; everything started is stopped again.
        """
        self._folders = open_folders(self.options.data_dir)
        with _locked(self.options.data_dir), self._signals():
            remove_ready_files(self._ready_files)
            serving = asyncio.create_task(self._serve())
            stopped = asyncio.create_task(self._stopping.wait())
            try:
                await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._access = None
                remove_ready_files(self._ready_files)
                for task in (serving, stopped):
                    task.cancel()
                await asyncio.wait({serving, stopped})
                await self._stop()
            if not serving.cancelled() and (error := serving.exception()) is not None:
                raise _first(error)

    @property
    def _ready_files(self) -> list[Path]:
        """The ready file that client commands look for, and the one requested."""
        asked = self.options.ready_file
        return [self._folders.root / "ready.json", *([asked] if asked else [])]

    async def _serve(self) -> None:
        """Start everything, then supervise it until cancelled."""
        if leftovers := await stop_leftovers(self._folders.run):
            self.report(f"stopped processes of an earlier run: {', '.join(leftovers)}")
        _rotate_logs(self._folders.logs)
        port = self._choose_port()
        secrets = load_secrets(self._folders.root / "secrets.json")
        parts = make_parts(self._folders, secrets)
        env = service_environment(parts, secrets, port=port, given=self.given)
        async with asyncio.TaskGroup() as group:
            units = [Unit(part.name, part) for part in own_parts(parts, self.given)]
            self.report(f"starting {', '.join(unit.kind for unit in units) or 'no servers of its own'}")
            await self._bring_up_servers(units, env, group=group)
            self.report("starting the API and the workers")
            await self._bring_up(self._services(env, port=port), group)
            self._access = await self._open_access(env, port=port)
            self._publish()
            self.announce(self._access)

    async def _bring_up_servers(self, units: list[Unit], env: Mapping[str, str], *, group: asyncio.TaskGroup) -> None:
        """Start the servers and migrate; the other servers load while Postgres starts."""
        postgres = [unit for unit in units if unit.kind == "postgres"]
        argv = (sys.executable, "-m", "ragsvc", "migrate")
        migrate = Command(name="migrate", argv=argv, env=env, log=self._folders.logs / "migrate.log")
        async with asyncio.TaskGroup() as starting:
            starting.create_task(self._bring_up([unit for unit in units if unit not in postgres], group))
            await self._bring_up(postgres, group)
            await run(migrate, self._folders.run)

    async def _bring_up(self, units: Iterable[Unit], group: asyncio.TaskGroup) -> None:
        async with asyncio.TaskGroup() as starting:
            for unit in units:
                starting.create_task(self._start(unit))
        for unit in units:
            group.create_task(self._supervise(unit))

    async def _start(self, unit: Unit) -> None:
        self._running[unit] = await start(unit.part, self._folders.run)
        self._publish()

    async def _supervise(self, unit: Unit) -> None:
        """Restart the unit whenever it exits; the delay doubles until the unit has run for STEADY_S."""
        delay_s = FIRST_DELAY_S
        while True:
            if process := self._running.get(unit):
                code = await process.wait()
                del self._running[unit]
                self._publish()
                self.report(f"{unit.part.name} (pid {process.pid}) ended with {code}: restarting it")
                if time.monotonic() - process.started > STEADY_S:
                    delay_s = FIRST_DELAY_S
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, LONGEST_DELAY_S)
            try:
                await self._start(unit)
            except StartupRefused as refused:
                self.report(str(refused))

    def _services(self, env: Mapping[str, str], *, port: int) -> list[Unit]:
        logs, options = self._folders.logs, self.options
        shares_port = options.api_workers > 1
        of_worker = worker_environment(env)
        units = [
            Unit("api", Api(name=f"api-{number}", port=port, shares_port=shares_port, env=env, logs=logs))
            for number in range(1, options.api_workers + 1)
        ]
        for kind, settings_class, count in (
            ("ingestion", "IngestionSettings", options.ingestion_workers),
            ("deletion", "DeletionSettings", options.deletion_workers),
        ):
            units += [
                Unit(kind, Worker(name=f"{kind}-{number}", settings_class=settings_class, env=of_worker, logs=logs))
                for number in range(1, count + 1)
            ]
        return units

    async def _open_access(self, env: Mapping[str, str], *, port: int) -> Access:
        # Not at the top: it imports an HTTP client, and an earlier run's ready file must be removed first.
        from ragsvc.devstack.tenant import open_tenant, read_notices  # noqa: PLC0415

        base_url = f"http://{LOOPBACK}:{port}"
        stored_at = self._folders.root / "tenant.json"
        tenant = await open_tenant(base_url, admin_key=env["ADMIN_API_KEY"], stored_at=stored_at)
        return Access(base_url, tenant, env, notices=await read_notices(base_url))

    def _publish(self) -> None:
        """Rewrite the ready files, once everything is ready."""
        if self._access is not None:
            in_order = sorted(self._running.items(), key=lambda item: item[0].part.name)
            running = [(unit.kind, process.pid) for unit, process in in_order]
            write_ready_files(self._ready_files, self._access, running=running)

    async def _stop(self) -> None:
        """Stop the service, then the servers that it uses."""
        servers = {unit for unit in self._running if unit.kind in SINGLE}
        for units in (self._running.keys() - servers, servers):
            await asyncio.gather(*(self._running[unit].stop() for unit in units))

    def _choose_port(self) -> int:
        port = self.options.port or free_ports(1)[0]
        if not is_free(listen_address(self.given), port):
            raise StartupRefused(f"port {port} is taken: stop what listens there, or choose another with --port")
        return port

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._on_signal)
        try:
            yield
        finally:
            for number in STOP_SIGNALS:
                loop.remove_signal_handler(number)

    def _on_signal(self) -> None:
        if self._stopping.is_set():
            for process in self._running.values():
                process.kill()
        self._stopping.set()


@contextlib.contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Lock the data directory: two stacks would corrupt it. The kernel releases the lock when the process ends."""
    with (data_dir / "supervisor.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise StartupRefused(f"`ragsvc dev` (pid {lock.read()}) already runs on {data_dir}") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _rotate_logs(logs: Path) -> None:
    for log in logs.glob("*.log"):
        log.replace(log.with_suffix(".log.1"))


def _first(error: BaseException) -> BaseException:
    """Return the first failure inside nested exception groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

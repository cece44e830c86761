"""Keeps the whole stack running: starts it in order, restarts what dies, tells where everything is, stops it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ragsvc.embedded.environment import embedded_parts, listen_address, service_environment
from ragsvc.embedded.ports import LOOPBACK, free_ports, is_free
from ragsvc.embedded.process import Command, run, stop_leftovers
from ragsvc.embedded.secrets import load_secrets, write_private
from ragsvc.embedded.services import Api, Worker
from ragsvc.embedded.stack import make_parts, open_folders, start
from ragsvc.embedded.tenant import Tenant, open_tenant
from ragsvc.errors import StartupRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from ragsvc.embedded.process import Process
    from ragsvc.embedded.stack import Folders, Part

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0
# A child that lived this long starts over with the first delay.
STEADY_S = 10.0
SINGLE = ("postgres", "redis", "s3", "models")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `ragsvc dev` was asked; port 0 takes a free one."""

    data_dir: Path
    port: int
    ready_file: Path | None = None
    api_workers: int = 1
    ingestion_workers: int = 1
    deletion_workers: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """A child that is kept running; `kind` is its place in the ready file."""

    kind: str
    part: Part


@dataclass(frozen=True, slots=True)
class Access:
    """Where the running stack is, and what opens it."""

    base_url: str
    tenant: Tenant
    env: Mapping[str, str]

    def to_json(self) -> dict[str, object]:
        """Return what the ready file says, but for the pids."""
        return {
            "base_url": self.base_url,
            "workspace_id": self.tenant.workspace_id,
            "api_key": self.tenant.api_key,
            "admin_key": self.env["ADMIN_API_KEY"],
            "database_url": self.env["DATABASE_URL"],
            "redis_url": self.env["REDIS_URL"],
            "queue_prefix": self.env.get("QUEUE_PREFIX", "ragsvc"),
            "s3": {
                "endpoint_url": self.env["S3_ENDPOINT_URL"],
                "access_key_id": self.env.get("S3_ACCESS_KEY_ID"),
                "secret_access_key": self.env.get("S3_SECRET_ACCESS_KEY"),
                "region": self.env.get("S3_REGION", "us-east-1"),
                "bucket": self.tenant.bucket,
            },
            "models_url": self.env["OPENAI_BASE_URL"],
        }


@dataclass(slots=True)
class Supervisor:
    """One run of the stack; `tell` takes a line for the console now and then, `announce` where the ready stack is."""

    options: Options
    tell: Callable[[str], None]
    announce: Callable[[Access], None]
    given: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    _folders: Folders = field(init=False)
    _access: Access | None = field(init=False, default=None)
    _running: dict[Unit, Process] = field(init=False, default_factory=dict)
    _stopping: asyncio.Event = field(init=False, default_factory=asyncio.Event)

    async def run(self) -> None:
        """Run the stack until SIGINT, SIGTERM or SIGHUP; a second one kills what has not stopped yet.

        Raises:
            StartupRefused: it cannot be started; everything that was is stopped.
        """
        self._folders = open_folders(self.options.data_dir)
        with _locked(self.options.data_dir), self._signals():
            self._withdraw()
            serving = asyncio.create_task(self._serve())
            stopped = asyncio.create_task(self._stopping.wait())
            try:
                await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (serving, stopped):
                    task.cancel()
                await asyncio.wait({serving, stopped})
                self._withdraw()
                await self._stop()
            if not serving.cancelled() and (error := serving.exception()) is not None:
                raise _first(error)

    @property
    def _ready_files(self) -> list[Path]:
        """The one that the client commands look for, and the one that was asked for."""
        return [self._folders.root / "ready.json", *([self.options.ready_file] if self.options.ready_file else [])]

    async def _serve(self) -> None:
        """Bring everything up, then keep it up, for ever."""
        leftovers = await stop_leftovers(self._folders.run)
        if leftovers:
            self.tell(f"stopped what an earlier run left: {', '.join(leftovers)}")
        _rotate_logs(self._folders.logs)
        port = self._choose_port()
        secrets = load_secrets(self._folders.root / "secrets.json")
        parts = make_parts(self._folders, secrets)
        env = service_environment(parts, secrets, port=port, given=self.given)
        async with asyncio.TaskGroup() as keepers:
            servers = [Unit(part.name, part) for part in embedded_parts(parts, self.given)]
            self.tell(f"starting {', '.join(unit.kind for unit in servers) or 'no server of our own'}")
            async with asyncio.TaskGroup() as starting:
                starting.create_task(self._bring_up([unit for unit in servers if unit.kind != "postgres"], keepers))
                # Nothing else is needed to migrate: the others load their files meanwhile.
                await self._bring_up([unit for unit in servers if unit.kind == "postgres"], keepers)
                await self._migrate(env)
            self.tell("starting the API and the workers")
            await self._bring_up(self._services(env, port=port), keepers)
            base_url = f"http://{LOOPBACK}:{port}"
            kept = self._folders.root / "tenant.json"
            tenant = await open_tenant(base_url, admin_key=env["ADMIN_API_KEY"], kept=kept)
            self._access = Access(base_url, tenant, env)
            self._publish()
            self.announce(self._access)

    async def _bring_up(self, units: Iterable[Unit], keepers: asyncio.TaskGroup) -> None:
        async with asyncio.TaskGroup() as starting:
            for unit in units:
                starting.create_task(self._start(unit))
        for unit in units:
            keepers.create_task(self._keep(unit))

    async def _start(self, unit: Unit) -> None:
        self._running[unit] = await start(unit.part, self._folders.run)
        self._publish()

    async def _keep(self, unit: Unit) -> None:
        """Restart the unit whenever it ends, the sooner the longer it had lived."""
        delay_s = FIRST_DELAY_S
        while True:
            if process := self._running.get(unit):
                code = await process.wait()
                del self._running[unit]
                self._publish()
                self.tell(f"{unit.part.name} (pid {process.pid}) ended with {code}: restarting it")
                if time.monotonic() - process.started > STEADY_S:
                    delay_s = FIRST_DELAY_S
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, LONGEST_DELAY_S)
            try:
                await self._start(unit)
            except StartupRefused as refused:
                self.tell(str(refused))

    async def _migrate(self, env: Mapping[str, str]) -> None:
        argv = (sys.executable, "-m", "ragsvc", "migrate")
        log = self._folders.logs / "migrate.log"
        await run(Command(name="migrate", argv=argv, env=env, log=log), self._folders.run)

    def _services(self, env: Mapping[str, str], *, port: int) -> list[Unit]:
        logs, options = self._folders.logs, self.options
        shares_port = options.api_workers > 1
        units = [
            Unit("api", Api(name=f"api-{number}", port=port, shares_port=shares_port, env=env, logs=logs))
            for number in range(1, options.api_workers + 1)
        ]
        for kind, settings_class, count in (
            ("ingestion", "IngestionSettings", options.ingestion_workers),
            ("deletion", "DeletionSettings", options.deletion_workers),
        ):
            units += [
                Unit(kind, Worker(name=f"{kind}-{number}", settings_class=settings_class, env=env, logs=logs))
                for number in range(1, count + 1)
            ]
        return units

    def _publish(self) -> None:
        """Rewrite the ready file, once everything has been ready."""
        if self._access is None:
            return
        pids: dict[str, object] = dict.fromkeys(SINGLE) | {"api": [], "ingestion": [], "deletion": []}
        for unit, process in sorted(self._running.items(), key=lambda item: item[0].part.name):
            listed = pids[unit.kind]
            if isinstance(listed, list):
                listed.append(process.pid)
            else:
                pids[unit.kind] = process.pid
        content = self._access.to_json() | {"supervisor_pid": os.getpid(), "pids": pids}
        for path in self._ready_files:
            write_private(path, json.dumps(content, indent=1))

    def _withdraw(self) -> None:
        self._access = None
        for path in self._ready_files:
            path.unlink(missing_ok=True)

    async def _stop(self) -> None:
        """Stop the service first, then the servers it uses."""
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
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, self._on_signal)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _on_signal(self) -> None:
        if self._stopping.is_set():
            for process in self._running.values():
                process.kill()
        self._stopping.set()


@contextlib.contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Hold the data directory: two stacks on one would ruin it. The kernel lets go when the process ends."""
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
    """Return what went wrong first, out of the groups that tasks wrap it in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

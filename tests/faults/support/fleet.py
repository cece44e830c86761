"""A fleet of real worker processes with its own database, Redis and scripted providers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

import psutil

from ragsvc.devstack.parts.services import Worker
from ragsvc.devstack.process import spawn
from ragsvc.domain.jobs import Queue
from tests.support.documents.documents import accept
from tests.support.environment import variables_of
from tests.support.polling import until
from tests.support.servers.databases import owner_of
from tests.support.workspaces import create_workspace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path
    from uuid import UUID

    from ragsvc.devstack.process import Process
    from ragsvc.domain.documents import Document
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings
    from tests.faults.support.gates import Gates
    from tests.faults.support.own_servers import OwnRedis, StoreProxy
    from tests.http.support.proxy import Proxy
    from tests.support.servers.model_server import ScriptedModels

# Everything takes a few seconds here, but longer on a busy machine or with coverage.
SOON_S = 60.0
SETTINGS_CLASSES = {Queue.INGESTION: "IngestionSettings", Queue.DELETION: "DeletionSettings"}
FAST = {
    "job_lease_s": 2.0,
    "sweep_interval_s": 0.5,
    "backoff_base_s": 0.1,
    "backoff_cap_s": 1.0,
    "worker_grace_s": 5.0,
    "model_timeout_s": 3.0,
    "s3_timeout_s": 1.0,
    "ingestion_concurrency": 6,
    "embedding_batch_size": 2,
    "embedding_concurrency": 1,
    "parse_memory_bytes": 192 * 1024 * 1024,
}
IN_TRANSACTION = (
    "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND client_port = ANY($1)"
)


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment variables that give a process these settings."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return env | variables_of(settings)


class FleetWorker:
    """One worker process."""

    def __init__(self, process: Process, queue: Queue) -> None:
        self.queue = queue
        self.process = process
        self.pid = process.pid

    @property
    def owner(self) -> str:
        """The name of the worker in leases."""
        return f"{socket.gethostname()}:{self.pid}"

    def is_running(self) -> bool:
        """Return whether the process is running."""
        return self.process.is_running()

    def has_logged(self, event: str) -> bool:
        """Return whether the worker has logged the event."""
        return event in self.process.output()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, but not to its children."""
        os.kill(self.pid, number)

    async def kill(self) -> None:
        """Kill the worker with SIGKILL, like the out-of-memory killer."""
        self.signal(signal.SIGKILL)
        await self.process.wait()

    async def terminate(self, *, times: int = 1) -> None:
        """Send SIGTERM the given number of times and wait for the end of the worker."""
        for _ in range(times):
            self.signal(signal.SIGTERM)
            await asyncio.sleep(0.05 if times > 1 else 0)
        await self.process.wait()

    def ports(self) -> list[int]:
        """Return the local ports of the worker's connections."""
        return [
            connection.laddr.port for connection in psutil.Process(self.pid).net_connections("tcp") if connection.laddr
        ]


@dataclass(slots=True)
class Fleet:
    """The workers and their servers; `resources` connect the test to the same servers, as in an API process."""

    settings: Settings
    worker_settings: Settings
    folder: Path
    resources: Resources
    redis: OwnRedis
    store: StoreProxy
    models: ScriptedModels
    gates: Gates
    models_proxy: Proxy
    store_proxy: Proxy
    workers: list[FleetWorker] = field(default_factory=list)
    contents: dict[UUID, bytes] = field(default_factory=dict)
    accepted: dict[UUID, list[Document]] = field(default_factory=dict)
    _names: count[int] = field(default_factory=lambda: count(1))

    @property
    def ingestion(self) -> list[FleetWorker]:
        """The running ingestion workers."""
        return [worker for worker in self.workers if worker.queue is Queue.INGESTION and worker.is_running()]

    async def staff(self, *, ingestion: int = 2, deletion: int = 1) -> None:
        """Start workers until there are this many of each kind."""
        self.workers = [worker for worker in self.workers if worker.is_running()]
        missing = [Queue.INGESTION] * ingestion + [Queue.DELETION] * deletion
        for worker in self.workers:
            if worker.queue in missing:
                missing.remove(worker.queue)
        await asyncio.gather(*(self.start_worker(queue) for queue in missing))

    async def start_worker(self, queue: Queue = Queue.INGESTION, *, launcher: Sequence[str] = ()) -> FleetWorker:
        """Start a worker and return it once it takes jobs; the arguments in `launcher`, if any, replace `-m arq`."""
        name = f"{queue}-{next(self._names)}"
        env = environment(self.worker_settings)
        part = Worker(name=name, settings_class=SETTINGS_CLASSES[queue], env=env, logs=self.folder)
        command = await part.prepare()
        if launcher:
            command = type(command)(
                name=name, argv=(sys.executable, *launcher, *command.argv[1:]), env=env, log=command.log
            )
        worker = FleetWorker(spawn(command, self.folder), queue)
        self.workers.append(worker)

        async def is_ready() -> bool:
            assert worker.is_running(), worker.process.output()
            return await part.is_ready(worker.process)

        await until(is_ready, timeout_s=SOON_S, what="a worker")
        return worker

    async def freeze(self, worker: FleetWorker) -> None:
        """Stop the process at a moment when it has no open transaction, whose locks would block the other workers."""
        while True:
            worker.signal(signal.SIGSTOP)
            async with owner_of(self.resources.settings) as owner:
                if not await owner.fetchval(IN_TRANSACTION, worker.ports()):
                    return
            worker.signal(signal.SIGCONT)
            await asyncio.sleep(0.02)

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        """Freeze every ingestion worker until the `with` block ends."""
        frozen = self.ingestion
        for worker in frozen:
            await self.freeze(worker)
        try:
            yield
        finally:
            for worker in frozen:
                worker.signal(signal.SIGCONT)

    async def make_workspace(self) -> Workspace:
        """Return a new workspace with its bucket."""
        return await create_workspace(self.resources.pool, self.resources.storage, self.settings)

    async def accept(
        self, workspace: Workspace, content: bytes, *, filename: str = "text.md", resources: Resources | None = None
    ) -> Document:
        """Upload a document as the API does, and record its content for the final assertions."""
        document = await accept(resources or self.resources, workspace, content, filename=filename)
        self.contents[document.id] = content
        self.accepted.setdefault(workspace.id, []).append(document)
        return document

    def documents_of(self, workspace: Workspace) -> list[Document]:
        """Return the documents accepted into the workspace."""
        return list(self.accepted[workspace.id])

    async def owner_of(self, document: Document) -> FleetWorker:
        """Wait until a worker runs the document's job, and return the worker."""

        async def find_owner() -> FleetWorker | None:
            async with self.resources.pool.acquire() as conn:
                owner = await conn.fetchval(
                    "SELECT lease_owner FROM jobs WHERE subject_id = $1 AND status = 'running'", document.id
                )
            return next((worker for worker in self.workers if worker.owner == owner), None)

        return await until(find_owner, timeout_s=SOON_S, what="an owner")

    async def until_failed(self, document: Document) -> None:
        """Wait until an attempt to ingest the document has failed."""

        async def has_failed() -> bool:
            async with self.resources.pool.acquire() as conn:
                failed = "SELECT first_failed_at IS NOT NULL FROM jobs WHERE subject_id = $1"
                return bool(await conn.fetchval(failed, document.id))

        await until(has_failed, timeout_s=SOON_S, what="a failed attempt")

    async def stop(self) -> None:
        """Stop every process of the fleet, frozen or not."""
        for worker in self.workers:
            if worker.is_running():
                worker.signal(signal.SIGCONT)
        await asyncio.gather(*(worker.process.stop() for worker in self.workers))

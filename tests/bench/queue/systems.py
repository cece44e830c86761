"""The compared queues behind one interface: run a worker, enqueue jobs."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from arq.connections import ArqRedis, RedisSettings, create_pool

from ragsvc.domain.ids import new_id
from ragsvc.domain.jobs import JobKind, Queue, SubjectKind
from ragsvc.jobs import lifecycle
from ragsvc.resources import open_resources
from tests.bench.queue.journal import VARIABLE, Journal
from tests.support.polling import until
from tests.support.servers.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings

BULLMQ = "bullmq@5"
NOT_STARTED_S = 60.0


class System(Protocol):
    """A queue with a running worker."""

    journal: Journal
    worker_pid: int

    async def enqueue(self, first: int, *, count: int, wait_s: float) -> None:
        """Enqueue jobs numbered from `first` that wait `wait_s`; the journal records each one first."""


@dataclass(frozen=True)
class WaitPayload:
    """The number of a job that only waits, and for how long."""

    kind: ClassVar[JobKind] = JobKind.INGEST

    n: int
    wait_s: float

    def to_json(self) -> dict[str, object]:
        """Return the payload as the database stores it."""
        return asdict(self)


@dataclass
class Ragsvc:
    """This service's queue: a row in Postgres, then the notification."""

    journal: Journal
    worker_pid: int
    resources: Resources

    async def enqueue(self, first: int, *, count: int, wait_s: float) -> None:
        """Insert and commit, then notify, as every use-case does."""
        workspace_id = new_id()
        for number in range(first, first + count):
            self.journal.note("enqueue", number)
            async with self.resources.pool.acquire() as conn, conn.transaction():
                job = await lifecycle.enqueue(
                    conn,
                    self.resources.settings,
                    workspace_id=workspace_id,
                    queue=Queue.INGESTION,
                    subject_kind=SubjectKind.DOCUMENT,
                    subject_id=new_id(),
                    payload=WaitPayload(number, wait_s),
                )
            await self.resources.notifier.notify(job)


@dataclass
class Arq:
    """arq with its defaults."""

    journal: Journal
    worker_pid: int
    redis: ArqRedis
    queue: str

    async def enqueue(self, first: int, *, count: int, wait_s: float) -> None:
        """Call arq's enqueue_job."""
        for number in range(first, first + count):
            self.journal.note("enqueue", number)
            await self.redis.enqueue_job("wait", number, wait_s, _queue_name=self.queue)


@dataclass
class BullMq:
    """BullMQ with its defaults."""

    journal: Journal
    worker_pid: int
    producer: asyncio.subprocess.Process

    async def enqueue(self, first: int, *, count: int, wait_s: float) -> None:
        """Enqueue through the Node.js process."""
        assert self.producer.stdin is not None
        command = {"n": first, "count": count, "wait_ms": round(wait_s * 1000)}
        self.producer.stdin.write(json.dumps(command).encode() + b"\n")
        await self.producer.stdin.drain()


@asynccontextmanager
async def ragsvc(settings: Settings, env: dict[str, str]) -> AsyncIterator[System]:
    """Run our worker."""
    async with AsyncExitStack() as stack:
        journal, env = _journal(stack, env)
        resources = await stack.enter_async_context(open_resources(settings, pool_size=4))
        arq = str(Path(sys.executable).parent / "arq")
        pid = await _spawn(stack, [arq, "tests.bench.queue.ragsvc_worker.BenchSettings"], env, says="worker_started")
        yield Ragsvc(journal, pid, resources)


@asynccontextmanager
async def arq(settings: Settings, env: dict[str, str]) -> AsyncIterator[System]:
    """Run arq's worker."""
    async with AsyncExitStack() as stack:
        journal, env = _journal(stack, env)
        command = [str(Path(sys.executable).parent / "arq"), "tests.bench.queue.arq_worker.BenchSettings"]
        pid = await _spawn(stack, command, env, says="Starting worker")
        redis = await create_pool(RedisSettings.from_dsn(settings.stores.redis_url.get_secret_value()))
        stack.push_async_callback(redis.aclose)
        yield Arq(journal, pid, redis, env["BENCH_QUEUE"])


@asynccontextmanager
async def bullmq(_settings: Settings, env: dict[str, str]) -> AsyncIterator[System]:
    """Run BullMQ's worker and a producer."""
    async with AsyncExitStack() as stack:
        journal, env = _journal(stack, env)
        env["BENCH_MODULES"] = str(install_bullmq())
        script = str(Path(__file__).with_name("bullmq_worker.mjs"))
        pid = await _spawn(stack, ["node", script, "worker"], env, says=None)
        await until(lambda: journal.read("ready"), timeout_s=NOT_STARTED_S, what="BullMQ's worker")
        producer = await asyncio.create_subprocess_exec("node", script, "producer", env=env, stdin=subprocess.PIPE)
        stack.push_async_callback(_stop, producer)
        await until(lambda: journal.path.read_text().count("ready") > 1, timeout_s=NOT_STARTED_S)
        yield BullMq(journal, pid, producer)


def install_bullmq() -> Path:
    """Install BullMQ from npm into a cached folder, and return the folder."""
    folder = Path(tempfile.gettempdir()) / f"ragsvc-bench-{os.geteuid()}-{BULLMQ}"
    if not (folder / "node_modules" / "bullmq").exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), BULLMQ]
        subprocess.run(install, check=True)  # noqa: S603  # our own command
    return folder


def _journal(stack: AsyncExitStack, env: dict[str, str]) -> tuple[Journal, dict[str, str]]:
    folder = Path(tempfile.mkdtemp(prefix="ragsvc-bench-"))
    stack.callback(shutil.rmtree, folder)
    journal = Journal(folder / "journal")
    return journal, {**env, VARIABLE: str(journal.path), "BENCH_QUEUE": f"bench:{uuid.uuid4().hex}"}


async def _spawn(stack: AsyncExitStack, command: list[str], env: dict[str, str], *, says: str | None) -> int:
    log = Path(env[VARIABLE]).with_name("worker.log")
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=env, stdout=output, stderr=output)
    stack.push_async_callback(_stop, process)
    if says is not None:
        await until(lambda: says in log.read_text(), timeout_s=NOT_STARTED_S, what=" ".join(command))
    return process.pid


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    await process.wait()

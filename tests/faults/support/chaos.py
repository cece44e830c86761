"""Random faults in a fleet, reproducible from a seed."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.servers.model_server import Cut, Fail, Pause, Slow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.faults.support.fleet import Fleet, FleetWorker
    from tests.support.servers.model_server import Behaviour

MEAN_PAUSE_S = 2.0
COUNT_RUNNING = "SELECT count(*) FROM jobs WHERE status = 'running' AND lease_owner = $1"


@dataclass(slots=True)
class Chaos:
    """Injects faults, and replaces the workers that they kill."""

    fleet: Fleet
    seed: int
    workers: int
    counts: Counter[str] = field(default_factory=Counter)
    recoveries_s: list[float] = field(default_factory=list)
    _watches: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self, duration_s: float) -> None:
        """Inject one fault after another for `duration_s`, then reset all servers and wait for the recoveries."""
        rng = random.Random(self.seed)  # noqa: S311 - not a secret
        faults: list[Callable[[random.Random], Awaitable[None]]] = [
            self.kill,
            self.kill,
            self.terminate,
            self.freeze,
            self.flush,
            self.restart_redis,
            self.fail_models,
            self.fail_store,
            self.cut_models,
        ]
        ends = time.monotonic() + duration_s
        while time.monotonic() < ends:
            await asyncio.sleep(min(rng.expovariate(1 / MEAN_PAUSE_S), max(0.0, ends - time.monotonic())))
            fault = rng.choice(faults)
            self.counts[fault.__name__] += 1
            await fault(rng)
            await self.fleet.staff(ingestion=self.workers, deletion=1)
        self.fleet.models.embeddings.reset()
        self.fleet.store.reads.reset()
        await asyncio.gather(*self._watches)

    async def kill(self, rng: random.Random) -> None:
        """Kill a worker with SIGKILL."""
        worker = await self._choose(rng)
        running = await self._jobs_of(worker)
        await worker.kill()
        if running:
            self._watch(worker)

    async def terminate(self, rng: random.Random) -> None:
        """Send a worker SIGTERM once or twice."""
        worker = await self._choose(rng)
        await worker.terminate(times=rng.choice([1, 2]))

    async def freeze(self, rng: random.Random) -> None:
        """Freeze a worker for longer than its lease, and resume it."""
        worker = await self._choose(rng)
        await self.fleet.freeze(worker)
        await asyncio.sleep(self.fleet.settings.jobs.job_lease_s * 2)
        worker.signal(signal.SIGCONT)

    async def flush(self, _rng: random.Random) -> None:
        """Flush Redis."""
        async with self.fleet.redis.client() as redis:
            await redis.flushall()

    async def restart_redis(self, rng: random.Random) -> None:
        """Kill Redis and restart it after a while, possibly without its data."""
        await self.fleet.redis.kill()
        if rng.random() < 0.5:
            self.fleet.redis.lose_data()
        await asyncio.sleep(rng.uniform(0, 4))
        await self.fleet.redis.start()

    async def fail_models(self, rng: random.Random) -> None:
        """Make the next embedding calls fail in typical ways."""
        behaviours: list[Behaviour] = [Fail(429, retry_after_s=1.0), Fail(500), Fail(503), Cut(), Slow(1.0), Pause()]
        self.fleet.models.embeddings.script(*rng.choices(behaviours, k=rng.randint(1, 10)))

    async def fail_store(self, rng: random.Random) -> None:
        """Make the next reads of the store fail in typical ways."""
        behaviours: list[Behaviour] = [Fail(500, code="InternalError"), Fail(503, code="SlowDown"), Cut()]
        self.fleet.store.reads.script(*rng.choices(behaviours, k=rng.randint(1, 10)))

    async def cut_models(self, rng: random.Random) -> None:
        """Make the model server unreachable for a while."""
        await self.fleet.models_proxy.cut()
        await asyncio.sleep(rng.uniform(0.5, 3))
        await self.fleet.models_proxy.mend()

    async def _choose(self, rng: random.Random) -> FleetWorker:
        """Return a random worker, preferably one with running jobs."""
        workers = self.fleet.ingestion
        busy = [worker for worker in workers if await self._jobs_of(worker)]
        return rng.choice(busy or workers)

    async def _jobs_of(self, worker: FleetWorker) -> int:
        async with self.fleet.resources.pool.acquire() as conn:
            running: int = await conn.fetchval(COUNT_RUNNING, worker.owner)
            return running

    def _watch(self, worker: FleetWorker) -> None:
        """Record how long it takes until all jobs of the dead worker have been rescued."""

        async def watch() -> None:
            died = time.monotonic()
            while await self._jobs_of(worker):  # noqa: ASYNC110 - another process ends the wait
                await asyncio.sleep(0.1)
            self.recoveries_s.append(time.monotonic() - died)

        task = asyncio.create_task(watch())
        self._watches.add(task)
        task.add_done_callback(self._watches.discard)

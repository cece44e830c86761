"""What happens to a fleet at random: a seed decides, so that a run can be repeated."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.servers.model_server import Cut, Fail, Pause, Slow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.faults.support.fleet import Fleet, FleetWorker
    from tests.support.servers.model_server import Behaviour

MEAN_PAUSE_S = 2.0
COUNT_HELD = "SELECT count(*) FROM jobs WHERE status = 'running' AND lease_owner = $1"


@dataclass(slots=True)
class Chaos:
    """Does harm until it is cancelled, and keeps the fleet at its size."""

    fleet: Fleet
    seed: int
    workers: int
    done: dict[str, int] = field(default_factory=dict)
    recoveries_s: list[float] = field(default_factory=list)
    _watches: set[asyncio.Task[None]] = field(default_factory=set)

    async def rage(self, duration_s: float) -> None:
        """Do one thing after the other for so long, then put everything right and wait for the recoveries."""
        dice = random.Random(self.seed)  # noqa: S311 - no secret
        harms: list[Callable[[random.Random], Awaitable[None]]] = [
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
            await asyncio.sleep(min(dice.expovariate(1 / MEAN_PAUSE_S), max(0.0, ends - time.monotonic())))
            harm = dice.choice(harms)
            self.done[harm.__name__] = self.done.get(harm.__name__, 0) + 1
            await harm(dice)
            await self.fleet.staff(ingestion=self.workers, deletion=1)
        self.fleet.models.embeddings.reset()
        self.fleet.store.reads.reset()
        await asyncio.gather(*self._watches)

    async def kill(self, dice: random.Random) -> None:
        """Kill a worker with -9."""
        worker = await self._choose(dice)
        held = await self._jobs_of(worker)
        await worker.kill()
        if held:
            self._watch(worker)

    async def terminate(self, dice: random.Random) -> None:
        """Ask a worker to stop, perhaps twice."""
        worker = await self._choose(dice)
        await worker.terminate(times=dice.choice([1, 2]))

    async def freeze(self, dice: random.Random) -> None:
        """Stop a worker past its lease, and let it go on."""
        worker = await self._choose(dice)
        await self.fleet.freeze(worker)
        await asyncio.sleep(self.fleet.settings.jobs.job_lease_s * 2)
        worker.signal(signal.SIGCONT)

    async def flush(self, _dice: random.Random) -> None:
        """Empty Redis."""
        async with self.fleet.redis.client() as redis:
            await redis.flushall()

    async def restart_redis(self, dice: random.Random) -> None:
        """Kill Redis, and start it again after a while, perhaps with nothing of what it knew."""
        await self.fleet.redis.kill()
        if dice.random() < 0.5:
            self.fleet.redis.lose_data()
        await asyncio.sleep(dice.uniform(0, 4))
        await self.fleet.redis.start()

    async def fail_models(self, dice: random.Random) -> None:
        """Have the next embedding calls fail in one of the usual ways."""
        behaviours: list[Behaviour] = [Fail(429, retry_after_s=1.0), Fail(500), Fail(503), Cut(), Slow(1.0), Pause()]
        self.fleet.models.embeddings.script(*dice.choices(behaviours, k=dice.randint(1, 10)))

    async def fail_store(self, dice: random.Random) -> None:
        """Have the next reads of the store fail in one of the usual ways."""
        behaviours: list[Behaviour] = [Fail(500, code="InternalError"), Fail(503, code="SlowDown"), Cut()]
        self.fleet.store.reads.script(*dice.choices(behaviours, k=dice.randint(1, 10)))

    async def cut_models(self, dice: random.Random) -> None:
        """Put the model server out of reach for a while."""
        await self.fleet.way_to_models.cut()
        await asyncio.sleep(dice.uniform(0.5, 3))
        await self.fleet.way_to_models.mend()

    async def _choose(self, dice: random.Random) -> FleetWorker:
        """Return a worker that is at work, if there is one."""
        workers = self.fleet.ingestion
        busy = [worker for worker in workers if await self._jobs_of(worker)]
        return dice.choice(busy or workers)

    async def _jobs_of(self, worker: FleetWorker) -> int:
        async with self.fleet.resources.pool.acquire() as conn:
            held: int = await conn.fetchval(COUNT_HELD, worker.owner)
            return held

    def _watch(self, worker: FleetWorker) -> None:
        """Note how long it takes until nothing stands under the dead worker's leases any more."""

        async def watch() -> None:
            died = time.monotonic()
            while await self._jobs_of(worker):  # noqa: ASYNC110  # another process ends it
                await asyncio.sleep(0.1)
            self.recoveries_s.append(time.monotonic() - died)

        task = asyncio.create_task(watch())
        self._watches.add(task)
        task.add_done_callback(self._watches.discard)

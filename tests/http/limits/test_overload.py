"""At ten times its capacity, a process serves what it can without delay, and its memory does not grow."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
import psutil
import pytest

from ragsvc.http.contract.ids import parse_id
from ragsvc.resources import open_resources
from tests.http.support.processes import serving
from tests.support.documents.library import Library
from tests.support.remote import Remote
from tests.support.servers.model_server import Slow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ragsvc.settings.settings import Settings
    from tests.support.servers.model_server import ScriptedModels

MIB = 1024 * 1024
log = logging.getLogger(__name__)
# A search waits this long for its embedding, and searches get half of the slots, so capacity is about 6 searches per
# second on any machine. `--log-cli-level=info` shows the results.
EMBEDDING_S = 0.6
SLOTS = 8
AT_ONCE = SLOTS // 2
MAX_WAIT_S = 1.0


class Load(NamedTuple):
    """The duration of each phase, the load as a multiple of capacity, and whether to assert throughput and latency."""

    seconds: float
    factor: int
    is_timed: bool


@dataclass(slots=True)
class Tally:
    """The responses by status; latencies are those of successful ones."""

    latencies_s: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    refusals_s: list[float] = field(default_factory=list)

    def add(self, status: int, taken_s: float) -> None:
        """Count a response."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        (self.latencies_s if status == 200 else self.refusals_s).append(taken_s)


@dataclass(frozen=True, slots=True)
class Site:
    """A process with a workspace."""

    remote: Remote
    pid: int
    numbers: Callable[[], int] = count().__next__

    @property
    def memory_bytes(self) -> int:
        """Resident memory of the process."""
        return int(psutil.Process(self.pid).memory_info().rss)

    async def search(self, tally: Tally) -> None:
        """Search with a query that has not been used before."""
        body = {"query": f"kettle {self.numbers()}", "mode": "dense"}
        began = time.monotonic()
        url = f"{self.remote.url}/v1/search"
        async with self.remote.session.post(url, json=body, headers=self.remote.headers) as response:
            await response.read()
            assert response.status in {200, 503}, response.status
            assert response.status == 200 or response.headers["Retry-After"]
        tally.add(response.status, time.monotonic() - began)


@asynccontextmanager
async def open_site(settings: Settings, models: ScriptedModels) -> AsyncIterator[Site]:
    own = models.applied_to(settings).changed({"max_requests": SLOTS})
    timeout = aiohttp.ClientTimeout(total=60)
    async with (
        serving(own, patch=f"import ragsvc.http.limits.admission as a; a.MAX_WAIT_S = {MAX_WAIT_S}") as api,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session,
    ):
        remote = await Remote.make(session, await api.started(), own)
        async with open_resources(own, pool_size=2) as resources:
            await Library(resources, parse_id("ws", remote.workspace["id"])).add("A kettle boils water.")
        models.embeddings.usual = Slow(EMBEDDING_S)
        yield Site(remote, api.process.pid)


async def saturate(site: Site, tally: Tally, *, seconds: float, callers: int) -> None:
    """Run this many concurrent callers, each of which sends one request after the other."""
    over = time.monotonic() + seconds

    async def ask() -> None:
        while time.monotonic() < over:
            await site.search(tally)

    await asyncio.gather(*(ask() for _ in range(callers)))


async def flood(site: Site, tally: Tally, *, seconds: float, per_second: float) -> None:
    """Send requests at this rate, regardless of the responses."""
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(round(seconds * per_second)):
            await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
            group.create_task(site.search(tally))


async def measure(work: Awaitable[None]) -> float:
    """Return the duration of the work in seconds."""
    began = time.monotonic()
    await work
    return time.monotonic() - began


def percentile(figures: list[float], part: float) -> float:
    return sorted(figures)[int(len(figures) * part)]


@pytest.mark.parametrize(
    "load",
    [
        pytest.param(Load(seconds=5, factor=10, is_timed=False), id="short"),
        pytest.param(Load(seconds=60, factor=10, is_timed=True), id="long", marks=pytest.mark.chaos),
    ],
)
async def test_at_ten_times_its_capacity_the_process_serves_what_it_can(
    settings: Settings, scripted_models: ScriptedModels, load: Load
) -> None:
    async with open_site(settings, scripted_models) as site:
        usual, crowded = Tally(), Tally()
        usual_s = await measure(saturate(site, usual, seconds=load.seconds, callers=AT_ONCE))
        capacity = len(usual.latencies_s) / usual_s
        before_bytes = site.memory_bytes
        crowded_s = await measure(flood(site, crowded, seconds=load.seconds, per_second=capacity * load.factor))
        goodput = len(crowded.latencies_s) / crowded_s
        grown_bytes = site.memory_bytes - before_bytes
        latest_s = percentile(crowded.latencies_s, 0.99)
        log.info(
            "capacity %.1f/s; at %d times the load: goodput %.1f/s, p99 of the accepted %.2f s (usually %.2f s),"
            " of the refused %.2f s, refused %d, memory %+.1f MiB",
            *(capacity, load.factor, goodput, latest_s, percentile(usual.latencies_s, 0.99)),
            *(percentile(crowded.refusals_s, 0.99), crowded.statuses[503], grown_bytes / MIB),
        )
        assert set(usual.statuses) == {200}
        assert crowded.statuses[503] > crowded.statuses[200], "the load did not exceed the capacity"
        assert grown_bytes < 32 * MIB
        if load.is_timed:
            assert goodput >= 0.8 * capacity
            # A busy machine can be slow to schedule either of the two processes.
            assert latest_s <= max(usual.latencies_s) + MAX_WAIT_S + 3.0

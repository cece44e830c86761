"""Ten times more requests than a process can serve: it serves what it can, soon, and its memory stays as it is."""

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
from tests.support.library import Library
from tests.support.remote import Remote
from tests.support.servers.model_server import Slow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ragsvc.settings.settings import Settings
    from tests.support.servers.model_server import ScriptedModels

MIB = 1024 * 1024
log = logging.getLogger(__name__)
# A search waits so long for its query's vector, and half of the places are open to searches: so the process can serve
# 6 of them a second, on whatever machine; `--log-cli-level=info` shows what came of it.
EMBEDDING_S = 0.6
PLACES = 8
AT_ONCE = PLACES // 2
MOST_WAIT_S = 1.0


class Load(NamedTuple):
    """How long each phase lasts, how many times the capacity is requested, and whether throughput and latency count."""

    seconds: float
    factor: int
    is_timed: bool


@dataclass(slots=True)
class Tally:
    """What was answered; latencies are those of answers 200."""

    latencies_s: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    refusals_s: list[float] = field(default_factory=list)

    def add(self, status: int, taken_s: float) -> None:
        """Count an answer."""
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
        """What is resident of the process."""
        return int(psutil.Process(self.pid).memory_info().rss)

    async def search(self, tally: Tally) -> None:
        """Ask for something new."""
        body = {"query": f"kettle {self.numbers()}", "mode": "dense"}
        began = time.monotonic()
        url = f"{self.remote.url}/v1/search"
        async with self.remote.session.post(url, json=body, headers=self.remote.headers) as answer:
            await answer.read()
            assert answer.status in {200, 503}, answer.status
            assert answer.status == 200 or answer.headers["Retry-After"]
        tally.add(answer.status, time.monotonic() - began)


@asynccontextmanager
async def open_site(settings: Settings, models: ScriptedModels) -> AsyncIterator[Site]:
    own = models.applied_to(settings).changed({"max_requests": PLACES})
    timeout = aiohttp.ClientTimeout(total=60)
    async with (
        serving(own, patch=f"import ragsvc.http.limits.admission as a; a.MAX_WAIT_S = {MOST_WAIT_S}") as api,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session,
    ):
        remote = await Remote.make(session, await api.started(), own)
        async with open_resources(own, pool_size=2) as resources:
            await Library(resources, parse_id("ws", remote.workspace["id"])).add("A kettle boils water.")
        models.embeddings.usual = Slow(EMBEDDING_S)
        yield Site(remote, api.process.pid)


async def keep_busy(site: Site, tally: Tally, *, seconds: float, callers: int) -> None:
    """Have so many callers ask one after the other."""
    over = time.monotonic() + seconds

    async def ask() -> None:
        while time.monotonic() < over:
            await site.search(tally)

    await asyncio.gather(*(ask() for _ in range(callers)))


async def flood(site: Site, tally: Tally, *, seconds: float, per_second: float) -> None:
    """Ask at this rate, whatever is answered."""
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(round(seconds * per_second)):
            await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
            group.create_task(site.search(tally))


async def measure(work: Awaitable[None]) -> float:
    """Return how long it took, in seconds."""
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
async def test_ten_times_the_load_is_served_as_far_as_it_can_be(
    settings: Settings, scripted_models: ScriptedModels, load: Load
) -> None:
    async with open_site(settings, scripted_models) as site:
        usual, crowded = Tally(), Tally()
        usual_s = await measure(keep_busy(site, usual, seconds=load.seconds, callers=AT_ONCE))
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
        assert crowded.statuses[503] > crowded.statuses[200], "it was not asked for more than it can"
        assert grown_bytes < 32 * MIB
        if load.is_timed:
            assert goodput >= 0.8 * capacity
            # A busy machine can be slow to schedule either of the two processes.
            assert latest_s <= max(usual.latencies_s) + MOST_WAIT_S + 3.0

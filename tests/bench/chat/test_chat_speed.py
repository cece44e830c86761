"""Answers arrive nearly as fast as the model produces them: `make bench`, on an idle machine."""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from ragsvc.retrieval.search import SearchRequest, find_hits
from tests.bench.chat.site import END, QUESTION, open_site
from tests.bench.table import at_least, at_most, ratio_at_least

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ragsvc.settings.settings import Settings
    from tests.bench.chat.site import Site
    from tests.bench.table import BenchTable

pytestmark = [pytest.mark.bench, pytest.mark.xdist_group("bench")]

WARM_UP = 5
TIMES = 200
STREAMS = 1000
FIRST_CROWD = 50
READERS = 10
EVENTS = 10_000
ROUNDS = 3


@pytest.fixture
async def site(settings: Settings) -> AsyncIterator[Site]:
    """The measured processes."""
    async with open_site(settings) as opened:
        yield opened


async def medians_s(*measures: Callable[[], Awaitable[float]]) -> list[float]:
    """Return the median of each measurement; they alternate, so that a slow phase affects all of them."""
    found = [[await measure() for measure in measures] for _ in range(WARM_UP + TIMES)][WARM_UP:]
    return [statistics.median(times) for times in zip(*found, strict=True)]


async def test_first_words(site: Site, bench_table: BenchTable) -> None:
    """The service delays the model's first words by little more than the time of retrieval."""
    request = SearchRequest(query=QUESTION)

    async def retrieve() -> float:
        started = time.perf_counter()
        await find_hits(site.resources, site.workspace_id, request)
        return time.perf_counter() - started

    service, model, retrieval = await medians_s(
        lambda: site.time_first_words_s("words-3-0"), lambda: site.time_first_words_of_model_s("words-3-0"), retrieve
    )
    bench_table.add("first words, p50", service * 1000, "ms", peer=("the model alone", model * 1000))
    bench_table.add("its retrieval, p50", retrieval * 1000, "ms")
    added = (service - model - retrieval) * 1000
    bench_table.add("added to model and retrieval, p50", added, "ms", goal=at_most(5))
    bench_table.check()


class Crowd:
    """Clients that start their answers a few at a time, then read all of them concurrently."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._may_ask = asyncio.Semaphore(20)
        self._open = 0
        self.most_open = 0

    async def complete(self, path: str) -> bool:
        """Ask and read to the end; return whether the answer is complete."""
        async with AsyncExitStack() as stack:
            async with self._may_ask:
                response = await stack.enter_async_context(self._site.ask(path))
            self._open += 1
            self.most_open = max(self.most_open, self._open)
            received = await response.read()
            self._open -= 1
        return END in received


async def test_a_thousand_streams(site: Site, bench_table: BenchTable) -> None:
    """One process streams a thousand answers at once, each from its own model stream."""
    model = "words-100-600"
    crowd = Crowd(site)
    # A small crowd first warms up pools and caches.
    firsts = [await site.begin_session("words-5-0") for _ in range(FIRST_CROWD)]
    await asyncio.gather(*map(crowd.complete, firsts))
    crowd.most_open = 0
    paths = [await site.begin_session(model) for _ in range(STREAMS)]
    before, peak = site.memory_bytes, 0
    answers = [asyncio.create_task(crowd.complete(path)) for path in paths]
    while not all(answer.done() for answer in answers):
        peak = max(peak, site.memory_bytes)
        await asyncio.wait(answers, timeout=0.5)
    completed = sum(answer.result() for answer in answers)
    bench_table.add("streams open at once", crowd.most_open, "", goal=at_least(STREAMS))
    bench_table.add("of them complete", completed, "", goal=at_least(STREAMS))
    bench_table.add("memory per stream", (peak - before) / STREAMS / 1024, "KiB", goal=at_most(100_000 / 1024))
    bench_table.check()


async def test_events(site: Site, bench_table: BenchTable) -> None:
    """Readers receive events about as fast as they would from a loop that only writes them."""
    path = await site.begin_session(f"words-{EVENTS}-0")
    started = time.perf_counter()
    async with site.ask(path) as response:
        run_id = response.headers["X-Run-Id"]
        await response.read()
    answering = EVENTS / (time.perf_counter() - started)

    async def read(url: str) -> None:
        async with site.http.get(url, headers=site.api.headers) as response:
            assert (await response.read()).count(b"event: message.delta") == EVENTS

    async def rate(url: str) -> float:
        rates = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            await asyncio.gather(*(read(url) for _ in range(READERS)))
            rates.append(READERS * EVENTS / (time.perf_counter() - started))
        return max(rates)

    ours = await rate(f"{site.api.url}/v1/chat/runs/{run_id}/events")
    bare = await rate(f"{site.model_url}/bare/{EVENTS}")
    bench_table.add("events to readers", ours, "/s", peer=("bare aiohttp loop", bare), goal=ratio_at_least(0.5))
    bench_table.add("events from model to client", answering, "/s")
    bench_table.check()

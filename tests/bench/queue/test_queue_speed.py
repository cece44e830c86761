"""The queue reaches its documented speed: `make bench`, on an idle machine."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.bench.queue import systems
from tests.bench.queue.measure import CONCURRENCY, WAIT_S, Figures, measure
from tests.bench.table import at_least, at_most, ratio_at_most
from tests.support.environment import variables_of

if TYPE_CHECKING:
    from ragsvc.settings.settings import Settings
    from tests.bench.table import BenchTable

ARQ = "plain arq"
COMPARED = {"ragsvc": systems.ragsvc, ARQ: systems.arq} | (
    {"BullMQ": systems.bullmq} if shutil.which("node") and shutil.which("npm") else {}
)


@pytest.mark.bench
async def test_the_queue_reaches_the_documented_speed(settings: Settings, bench_table: BenchTable) -> None:
    settings = settings.changed({"ingestion_concurrency": CONCURRENCY})
    figures: dict[str, Figures] = {}
    for name, run in COMPARED.items():
        async with run(settings, {**os.environ, **variables_of(settings)}) as system:
            figures[name] = await measure(system)
    ours = figures.pop("ragsvc")
    for peer, theirs in figures.items():
        start_goal = ratio_at_most(1 / 20) if peer == ARQ else None
        bench_table.add("start, p50", ours.start_p50_ms, "ms", peer=(peer, theirs.start_p50_ms), goal=start_goal)
        bench_table.add("start, p95", ours.start_p95_ms, "ms", peer=(peer, theirs.start_p95_ms))
        bench_table.add("jobs of 100 ms", ours.waiting_per_s, "jobs/s", peer=(peer, theirs.waiting_per_s))
        bench_table.add("empty jobs", ours.empty_per_s, "jobs/s", peer=(peer, theirs.empty_per_s))
        bench_table.add("CPU while idle", 100 * ours.idle_cpu, "%", peer=(peer, 100 * theirs.idle_cpu))
    bench_table.add("start, p50", ours.start_p50_ms, "ms", goal=at_most(10))
    full = CONCURRENCY / WAIT_S
    bench_table.add("jobs of 100 ms", ours.waiting_per_s, "jobs/s", peer=("all slots busy", full), goal=at_least(85))
    bench_table.add("empty jobs", ours.empty_per_s, "jobs/s", goal=at_least(300))
    bench_table.add("CPU while idle", 100 * ours.idle_cpu, "%", goal=at_most(1))
    bench_table.check()

"""What a scrape asks of Postgres and of the other stores: the queues' figures, and what this process has to do without.

A scrape never fails for a store that is away: its figures are missing then, and that it is away is a figure too.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog
from aiohttp import web
from prometheus_client.core import GaugeMetricFamily

from ragsvc.db.dead_jobs import select_dead_ages
from ragsvc.db.queue_state import select_queue_depths
from ragsvc.telemetry.exposition import render_metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from prometheus_client import Metric

    from ragsvc.domain.jobs import Queue, QueueDepth
    from ragsvc.http.limits.traffic import Traffic
    from ragsvc.http.ops.readiness import Readiness, Report
    from ragsvc.resources import Resources

ASK_TIMEOUT_S = 2.0
# Several scrapers, or one in a hurry, cost Postgres no more than this.
FRESH_S = 2.0
DEPENDENCIES = ("postgres", "redis", "s3")

log = structlog.get_logger(__name__)


class Scrape:
    """Answers scrapes of this process."""

    def __init__(self, resources: Resources, readiness: Readiness, traffic: Traffic) -> None:
        self._resources = resources
        self._readiness = readiness
        self._traffic = traffic
        self._lock = asyncio.Lock()
        self._queues: list[Metric] = []
        self._asked_at = float("-inf")

    async def answer(self, accept: str) -> tuple[bytes, str]:
        """Return the body and its content type."""
        report, queues = await asyncio.gather(self._readiness.report(), self._look_at_queues())
        known = [*queues, *_describe(report, is_draining=self._traffic.is_draining)]
        # Thousands of lines take a while to write.
        return await asyncio.to_thread(render_metrics, accept, known)

    async def _look_at_queues(self) -> list[Metric]:
        async with self._lock:
            if time.monotonic() - self._asked_at > FRESH_S:
                self._queues = await self._ask()
                self._asked_at = time.monotonic()
            return self._queues

    async def _ask(self) -> list[Metric]:
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S), self._resources.pool.acquire() as conn:
                depths = await select_queue_depths(conn)
                dead_ages = await select_dead_ages(conn)
        except Exception as error:  # noqa: BLE001 - whatever it is, the rest is told
            log.warning("queues_not_measured", error=error)
            return [_gauge("queue_stats_up", "Whether Postgres told the queues' figures.", 0)]
        return [
            _gauge("queue_stats_up", "Whether Postgres told the queues' figures.", 1),
            *_measure(depths, dead_ages),
        ]


def _measure(depths: Sequence[QueueDepth], dead_ages: Mapping[Queue, float]) -> Iterable[Metric]:
    def measure(name: str, documentation: str, read: Callable[[QueueDepth], float | None]) -> Metric:
        return _gauges(name, documentation, "queue", {depth.queue: read(depth) or 0.0 for depth in depths})

    yield measure("queue_depth", "Jobs that wait, due or not.", lambda depth: depth.queued)
    yield measure("queue_ready", "Jobs that are due and wait for a worker.", lambda depth: depth.ready)
    yield measure("queue_running", "Jobs that workers hold.", lambda depth: depth.running)
    yield measure(
        "queue_oldest_ready_age_seconds", "How long the oldest due job waits.", lambda depth: depth.oldest_ready_age_s
    )
    yield measure("queue_paused", "Whether the queue is paused, by hand or by an outage.", lambda depth: depth.paused)
    yield measure("dead_letters", "Dead letters.", lambda depth: depth.dead)
    yield measure(
        "dead_letter_oldest_age_seconds",
        "How long ago the oldest dead letter died.",
        lambda depth: dead_ages.get(depth.queue),
    )


def _describe(report: Report, *, is_draining: bool) -> Iterable[Metric]:
    away = {*report.degraded, *report.blockers}
    yield _gauge("ready", "Whether this process can serve.", not report.blockers and not is_draining)
    yield _gauges(
        "dependency_up",
        "Whether a store answers this process.",
        "dependency",
        {name: name not in away for name in DEPENDENCIES},
    )


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(f"ragsvc_{name}", documentation, value=float(value))


def _gauges(name: str, documentation: str, label: str, figures: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"ragsvc_{name}", documentation, labels=[label])
    for told, value in figures.items():
        family.add_metric([told], float(value))
    return family


SCRAPE = web.AppKey("scrape", Scrape)

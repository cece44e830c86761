"""Metrics that are queried at scrape time: the queues' statistics from Postgres, and the state of the stores.

A scrape succeeds even if a store is unavailable: its metrics are then omitted, and `ragsvc_dependency_up` is 0.
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
from ragsvc.db.workers import select_worker_counts
from ragsvc.telemetry.exposition import render_metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from prometheus_client import Metric

    from ragsvc.domain.jobs import Queue, QueueDepth
    from ragsvc.http.limits.traffic import Traffic
    from ragsvc.http.ops.readiness import Readiness, Report
    from ragsvc.resources import Resources

QUERY_TIMEOUT_S = 2.0
# Postgres is queried at most this often, however many scrapers there are.
FRESH_S = 2.0
DEPENDENCIES = ("postgres", "redis", "s3")

log = structlog.get_logger(__name__)


class Scrape:
    """Renders the metrics of this process."""

    def __init__(self, resources: Resources, readiness: Readiness, traffic: Traffic) -> None:
        self._resources = resources
        self._readiness = readiness
        self._traffic = traffic
        self._lock = asyncio.Lock()
        self._queues: list[Metric] = []
        self._queried_at = float("-inf")

    async def render(self, accept: str) -> tuple[bytes, str]:
        """Return the response body and its content type, which depends on the Accept header `accept`."""
        report, queues = await asyncio.gather(self._readiness.report(), self._load_queues())
        families = [*queues, *_describe(report, is_draining=self._traffic.is_draining)]
        # Rendering thousands of lines takes long enough to block the event loop.
        return await asyncio.to_thread(render_metrics, accept, families)

    async def _load_queues(self) -> list[Metric]:
        async with self._lock:
            if time.monotonic() - self._queried_at > FRESH_S:
                self._queues = await self._query()
                self._queried_at = time.monotonic()
            return self._queues

    async def _query(self) -> list[Metric]:
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_S), self._resources.pool.acquire() as conn:
                depths = await select_queue_depths(conn)
                dead_ages = await select_dead_ages(conn)
                workers = await select_worker_counts(conn)
        except Exception as error:  # noqa: BLE001 - any failure leaves out only these metrics
            log.warning("queues_not_measured", error=error)
            return [_gauge("queue_stats_up", "Whether the queue statistics could be read from Postgres.", 0)]
        return [
            _gauge("queue_stats_up", "Whether the queue statistics could be read from Postgres.", 1),
            *_measure(depths, dead_ages),
            _gauges("workers", "Live workers.", "queue", {count.queue: count.alive for count in workers}),
        ]


def _measure(depths: Sequence[QueueDepth], dead_ages: Mapping[Queue, float]) -> Iterable[Metric]:
    def measure(name: str, documentation: str, read: Callable[[QueueDepth], float | None]) -> Metric:
        return _gauges(name, documentation, "queue", {depth.queue: read(depth) or 0.0 for depth in depths})

    yield measure("queue_depth", "Queued jobs, due or not.", lambda depth: depth.queued)
    yield measure("queue_ready", "Queued jobs that are due.", lambda depth: depth.ready)
    yield measure("queue_running", "Jobs that workers are running.", lambda depth: depth.running)
    yield measure(
        "queue_oldest_ready_age_seconds", "Age of the oldest due job.", lambda depth: depth.oldest_ready_age_s
    )
    yield measure(
        "queue_paused", "Whether the queue is paused, manually or because of an outage.", lambda depth: depth.paused
    )
    yield measure(
        "queue_outage",
        "Whether the queue is paused because of an outage.",
        lambda depth: depth.paused and depth.next_probe_at is not None,
    )
    yield measure("dead_letters", "Dead letters.", lambda depth: depth.dead)
    yield measure(
        "dead_letters_for_service",
        "Dead letters that the service or its providers caused, not the owners of documents or webhooks.",
        lambda depth: depth.dead_for_service,
    )
    yield measure(
        "dead_letter_oldest_age_seconds",
        "Age of the oldest dead letter.",
        lambda depth: dead_ages.get(depth.queue),
    )


def _describe(report: Report, *, is_draining: bool) -> Iterable[Metric]:
    unavailable = {*report.degraded, *report.blockers}
    yield _gauge("ready", "Whether this process can serve requests.", not report.blockers and not is_draining)
    yield _gauges(
        "dependency_up",
        "Whether this process can reach a store.",
        "dependency",
        {name: name not in unavailable for name in DEPENDENCIES},
    )


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(f"ragsvc_{name}", documentation, value=float(value))


def _gauges(name: str, documentation: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"ragsvc_{name}", documentation, labels=[label])
    for label_value, value in values.items():
        family.add_metric([label_value], float(value))
    return family


SCRAPE = web.AppKey("scrape", Scrape)

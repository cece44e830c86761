"""Renders metrics for a scrape: those of this process, or of all processes under `serve --workers N`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from ragsvc.telemetry.metrics import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client import Metric

# Set by `serve --workers N` before its processes start: the directory in which they share their metrics.
SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


def render_metrics(accept: str, also: Sequence[Metric] = ()) -> tuple[bytes, str]:
    """Return the body and content type of a scrape in a format that `accept` allows; the body includes `also`."""
    encode, content_type = choose_encoder(accept)
    registry = CollectorRegistry()
    registry.register(_Given(also))
    if SHARED_FOLDER in os.environ:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry.register(_Given(REGISTRY))
    return encode(registry), content_type


class _Given(Collector):
    """Exports metrics that were collected elsewhere."""

    def __init__(self, metrics: Sequence[Metric] | CollectorRegistry) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """Return the metrics."""
        return self._metrics.collect() if isinstance(self._metrics, CollectorRegistry) else self._metrics

"""What a scrape is answered with: this process's metrics, or those of all processes of a `serve --workers N`."""

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

# Set by `serve --workers N` before its processes start: where they keep their figures for one another.
SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


def render_metrics(accept: str, also: Sequence[Metric] = ()) -> tuple[bytes, str]:
    """Return a scrape's body and content type, by what the scraper accepts, with further metrics of the moment."""
    encode, content_type = choose_encoder(accept)
    registry = CollectorRegistry()
    registry.register(_Given(also))
    if SHARED_FOLDER in os.environ:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry.register(_Given(REGISTRY))
    return encode(registry), content_type


class _Given(Collector):
    """Tells metrics that are known already."""

    def __init__(self, metrics: Sequence[Metric] | CollectorRegistry) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """Return them."""
        return self._metrics.collect() if isinstance(self._metrics, CollectorRegistry) else self._metrics

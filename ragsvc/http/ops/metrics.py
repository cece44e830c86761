"""The Prometheus endpoint: /metrics."""

from __future__ import annotations

from aiohttp import web

from ragsvc.http.auth import Access
from ragsvc.http.contract.operations import Media, operation
from ragsvc.http.ops.scrape import SCRAPE

routes = web.RouteTableDef()

METRICS = Media(
    "text/plain",
    "Metrics in the Prometheus text format, or in OpenMetrics if the Accept header asks for it.",
    other_content_types=("application/openmetrics-text",),
)


@routes.get("/metrics")
@operation("Get metrics", Access.PUBLIC, responses={200: METRICS})
async def get_metrics(request: web.Request) -> web.Response:
    """Return the metrics."""
    body, content_type = await request.app[SCRAPE].render(request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": content_type})

"""What Prometheus scrapes: /metrics."""

from __future__ import annotations

from aiohttp import web

from ragsvc.http.auth import Access
from ragsvc.http.contract.operations import Media, operation
from ragsvc.http.ops.scrape import SCRAPE

routes = web.RouteTableDef()

METRICS = Media(
    "text/plain",
    "The metrics, in Prometheus's text format or, where it is asked for, OpenMetrics.",
    other_content_types=("application/openmetrics-text",),
)


@routes.get("/metrics")
@operation("Tell the metrics", Access.PUBLIC, responses={200: METRICS})
async def get_metrics(request: web.Request) -> web.Response:
    """Answer a scrape."""
    body, content_type = await request.app[SCRAPE].answer(request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": content_type})

"""Liveness and readiness checks: /healthz and /readyz."""

from __future__ import annotations

from typing import Literal

from aiohttp import web
from typing_extensions import TypedDict

from ragsvc.http.auth import Access
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.rendering import json_response
from ragsvc.http.limits.traffic import TRAFFIC
from ragsvc.http.ops.readiness import READINESS

routes = web.RouteTableDef()


class HealthView(TypedDict):
    """The process is alive."""

    status: Literal["ok"]


class ReadinessView(TypedDict):
    """What prevents serving (`blockers`), what does not work although requests are served (`degraded`)."""

    status: Literal["ready", "not_ready"]
    blockers: list[Literal["postgres", "schema", "draining"]]
    degraded: list[Literal["redis", "s3", "ingestion_workers", "deletion_workers", "embedding_space"]]
    notices: list[str]


@routes.get("/healthz")
@operation("Check that the process is alive", Access.PUBLIC, responses={200: HealthView})
async def get_health(_request: web.Request) -> web.Response:
    """Respond 200 as long as the event loop runs."""
    return json_response({"status": "ok"})


@routes.get("/readyz")
@operation(
    "Check whether the process can serve requests", Access.PUBLIC, responses={200: ReadinessView, 503: ReadinessView}
)
async def get_readiness(request: web.Request) -> web.Response:
    """Respond 503 if this process must not receive requests."""
    if request.app[TRAFFIC].is_draining:
        return json_response(
            {"status": "not_ready", "blockers": ["draining"], "degraded": [], "notices": []}, status=503
        )
    report = await request.app[READINESS].report()
    return json_response(
        {
            "status": "not_ready" if report.blockers else "ready",
            "blockers": report.blockers,
            "degraded": report.degraded,
            "notices": report.notices,
        },
        status=503 if report.blockers else 200,
    )

"""The worker processes, for the operator: /v1/admin/workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from typing_extensions import TypedDict

from ragsvc.db.workers import select_workers
from ragsvc.domain.jobs import Queue
from ragsvc.http.auth import Access
from ragsvc.http.contract.ids import ShownTime
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.rendering import json_response, render_time
from ragsvc.http.state import resources_of

if TYPE_CHECKING:
    from ragsvc.domain.workers import WorkerProcess

routes = web.RouteTableDef()


class WorkerView(TypedDict):
    """A worker process, busy or not."""

    worker: str
    queue: Queue
    version: str
    concurrency: int
    alive: bool
    started_at: ShownTime
    last_seen_at: ShownTime
    last_look_at: ShownTime


class WorkersView(TypedDict):
    """Every worker that reported itself in the last hour."""

    data: list[WorkerView]


@routes.get("/v1/admin/workers")
@operation("List the workers", Access.ADMIN, responses={200: WorkersView})
async def list_workers(request: web.Request) -> web.Response:
    """Return the worker processes, busy or not, with those that fell silent in the last hour."""
    async with resources_of(request).pool.acquire() as conn:
        found = await select_workers(conn)
    return json_response({"data": [_render_worker(worker) for worker in found]})


def _render_worker(worker: WorkerProcess) -> WorkerView:
    return {
        "worker": worker.name,
        "queue": worker.queue,
        "version": worker.version,
        "concurrency": worker.concurrency,
        "alive": worker.is_alive,
        "started_at": render_time(worker.started_at),
        "last_seen_at": render_time(worker.last_seen_at),
        "last_look_at": render_time(worker.last_look_at),
    }

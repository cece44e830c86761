"""The aiohttp application: its routes, its middlewares, and the resources that it opens and closes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from ragsvc.http.companion import companion
from ragsvc.http.contract.operations import operation_of
from ragsvc.http.cors import add_cors_headers, respond_to_preflights
from ragsvc.http.hardening import check_host, harden
from ragsvc.http.idempotency import mark_streams, respond_once
from ragsvc.http.key_checks import KEY_CHECKS, KeyChecks
from ragsvc.http.key_uses import KEY_USES, KeyUses
from ragsvc.http.limits.admission import ADMISSION, Admission, admit, end_permit_of_stream, receive_body
from ragsvc.http.limits.client_rate import RATES, add_rate_headers, limit_rate
from ragsvc.http.limits.connections import CONNECTIONS, hold_connection
from ragsvc.http.limits.sending import SENDING, open_sending, send_within_share
from ragsvc.http.limits.traffic import TRAFFIC, Traffic
from ragsvc.http.middleware import finish_headers, identify, observe, respond_with_problems
from ragsvc.http.ops import description, health, metrics
from ragsvc.http.ops.readiness import READINESS, Readiness
from ragsvc.http.ops.scrape import SCRAPE, Scrape
from ragsvc.http.sse import STREAMS, Streams, StreamTiming
from ragsvc.http.state import RESOURCES
from ragsvc.http.tus import tus
from ragsvc.http.v1 import (
    admin_audit,
    admin_dlq,
    admin_queues,
    admin_service,
    admin_trace,
    admin_workers,
    bulk_operations,
    chat_messages,
    chat_runs,
    chat_sessions,
    collections,
    deletions,
    document_content,
    document_events,
    document_list,
    documents,
    files,
    keys,
    search,
    upload_tokens,
    uploads,
    usage,
    webhooks,
    workspace,
    workspaces,
)
from ragsvc.http.v1.run_responses import RUNS
from ragsvc.preflight import warn_of_faults
from ragsvc.queue.client_rate import ClientRates
from ragsvc.resources import open_resources
from ragsvc.runs.runs import open_runs
from ragsvc.shares import Shares
from ragsvc.sweeper import run_sweeper
from ragsvc.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ragsvc.settings.settings import Settings

ROUTES = (
    health.routes,
    description.routes,
    workspaces.routes,
    keys.routes,
    workspace.routes,
    collections.routes,
    bulk_operations.routes,
    documents.routes,
    document_content.routes,
    document_events.routes,
    document_list.routes,
    uploads.routes,
    upload_tokens.routes,
    companion.routes,
    tus.routes,
    files.routes,
    deletions.routes,
    search.routes,
    chat_sessions.routes,
    chat_messages.routes,
    chat_runs.routes,
    webhooks.routes,
    usage.routes,
    admin_queues.routes,
    admin_workers.routes,
    admin_dlq.routes,
    admin_audit.routes,
    admin_service.routes,
    admin_trace.routes,
)


def create_app(settings: Settings, *, timing: StreamTiming | None = None) -> web.Application:
    """Return the application, which opens its resources on startup.

    Raises:
        RuntimeError: a route has no declared operation, so nothing would check access to it.
    """
    app = web.Application(
        middlewares=[
            *(observe, respond_to_preflights, respond_with_problems, send_within_share, check_host, admit),
            *(identify, hold_connection, limit_rate, receive_body, respond_once),
        ],
        client_max_size=settings.api.max_json_body_bytes,
    )
    for routes in ROUTES:
        app.add_routes(routes)
    if settings.api.metrics_port is None:
        app.add_routes(metrics.routes)
    _check_access_declared(app)
    app[TRAFFIC] = Traffic()
    app[ADMISSION] = Admission(settings)
    app[CONNECTIONS] = Shares("connections", settings.api.max_connections)
    app[SENDING] = open_sending(settings.api.send_buffer_bytes)
    app[STREAMS] = Streams(
        limit=settings.api.max_streams, limit_per_key=settings.api.max_streams_per_key, timing=timing
    )
    app.on_response_prepare.append(finish_headers)
    app.on_response_prepare.append(harden)
    app.on_response_prepare.append(add_rate_headers)
    app.on_response_prepare.append(end_permit_of_stream)
    app.on_response_prepare.append(mark_streams)
    app.on_response_prepare.append(add_cors_headers)
    app.on_response_prepare.append(tus.finish_headers)
    app.on_shutdown.append(_close_streams)
    app.cleanup_ctx.append(_open_resources(settings))
    app.cleanup_ctx.append(_open_rates)
    app.cleanup_ctx.append(_open_runs)
    app.cleanup_ctx.append(_sweep)
    description.prepare_description(app)
    return app


def create_metrics_app(app: web.Application) -> web.Application:
    """Return an application that serves only the metrics of another application, which must have started."""
    metrics_app = web.Application()
    metrics_app.add_routes(metrics.routes)
    metrics_app[SCRAPE] = app[SCRAPE]
    return metrics_app


def _open_resources(settings: Settings) -> Callable[[web.Application], AsyncIterator[None]]:
    async def opened(app: web.Application) -> AsyncIterator[None]:
        async with open_resources(settings, pool_size=settings.stores.database_pool_size) as resources:
            app[RESOURCES] = resources
            app[READINESS] = Readiness(resources)
            app[SCRAPE] = Scrape(resources, app[READINESS], app[TRAFFIC])
            app[KEY_USES] = KeyUses(resources)
            app[KEY_CHECKS] = KeyChecks(resources)
            yield
            await app[KEY_USES].close()

    return opened


async def _open_rates(app: web.Application) -> AsyncIterator[None]:
    """Set up the rate limits of keys, and close them on shutdown."""
    rates = app[RATES] = ClientRates(app[RESOURCES].redis, app[RESOURCES].settings)
    yield
    await rates.close()


async def _open_runs(app: web.Application) -> AsyncIterator[None]:
    """Manage the runs of this process; those still active on shutdown are stored as interrupted."""
    async with open_runs(app[RESOURCES]) as runs:
        app[RUNS] = runs
        yield


async def _sweep(app: web.Application) -> AsyncIterator[None]:
    """Check the environment once, and sweep for lost work in the background, as every process does."""
    tasks = [asyncio.create_task(chore(app[RESOURCES])) for chore in (warn_of_faults, run_sweeper)]
    yield
    await cancel_and_wait(*tasks)


async def _close_streams(app: web.Application) -> None:
    app[STREAMS].close()


def _check_access_declared(app: web.Application) -> None:
    for route in app.router.routes():
        if operation_of(route.handler) is None:
            raise RuntimeError(f"{route.method} {route.resource} has no declared operation")

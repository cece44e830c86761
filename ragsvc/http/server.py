"""One API process: it listens, serves, and drains before it stops."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import structlog
import uvloop
from aiohttp import web

from ragsvc.errors.base import StartupRefused
from ragsvc.http.app import create_app, create_metrics_app
from ragsvc.http.limits.connections import Connections, raise_file_limit
from ragsvc.http.limits.traffic import TRAFFIC
from ragsvc.http.sse import STREAMS
from ragsvc.http.v1.run_responses import RUNS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ragsvc.settings.settings import Settings

# After the grace period, remaining handlers are cancelled and have this long to clean up.
CANCEL_GRACE_S = 1.0
BACKLOG = 1024
RUNS_POLL_S = 0.05

log = structlog.get_logger(__name__)


def serve(settings: Settings, *, reuse_port: bool = False) -> None:
    """Serve until SIGTERM or SIGINT; a second signal ends the grace period.

    With `reuse_port`, several processes can share the port.

    Raises:
        StartupRefused: Postgres is unusable, or the address is in use.
    """
    uvloop.run(serve_forever(settings, reuse_port=reuse_port))


async def serve_forever(settings: Settings, *, reuse_port: bool = False) -> None:
    """Serve like `serve`, in the running event loop."""
    raise_file_limit(settings.api.max_connections)
    app = create_app(settings)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=CANCEL_GRACE_S)
    with _signals() as stopping:
        await runner.setup()
        try:
            async with (
                _serving_metrics(app, settings, reuse_port=reuse_port),
                _listening(runner, settings, reuse_port=reuse_port),
            ):
                await stopping.get()
                await _drain(app, settings.api.api_grace_s, stopping)
        finally:
            await runner.cleanup()
    log.info("api_stopped", pid=os.getpid())


@asynccontextmanager
async def _serving_metrics(app: web.Application, settings: Settings, *, reuse_port: bool) -> AsyncIterator[None]:
    """Serve the metrics on METRICS_PORT, if set, until the process has drained."""
    if settings.api.metrics_port is None:
        yield
        return
    runner = web.AppRunner(create_metrics_app(app), access_log=None, shutdown_timeout=CANCEL_GRACE_S)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.api.host, settings.api.metrics_port, reuse_port=reuse_port)
        with _refusing_startup(f"METRICS_PORT: cannot listen on {settings.api.host}:{settings.api.metrics_port}"):
            await site.start()
        log.info("metrics_started", host=settings.api.host, port=runner.addresses[0][1])
        yield
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _listening(runner: web.AppRunner, settings: Settings, *, reuse_port: bool) -> AsyncIterator[None]:
    connections = Connections(limit=settings.api.max_connections, timeout_s=settings.api.client_timeout_s)
    assert runner.server is not None  # noqa: S101 - setup() has created it
    with _refusing_startup(f"HOST and PORT: cannot listen on {settings.api.host}:{settings.api.port}"):
        server = await connections.listen(
            runner.server, host=settings.api.host, port=settings.api.port, reuse_port=reuse_port, backlog=BACKLOG
        )
    try:
        host, port = server.sockets[0].getsockname()[:2]
        log.info("api_started", host=host, port=port, pid=os.getpid())
        async with connections.watch():
            yield
    finally:
        server.close()


@contextmanager
def _refusing_startup(refusal: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StartupRefused(f"{refusal}: {error}") from error


@contextmanager
def _signals() -> Iterator[asyncio.Queue[signal.Signals]]:
    """Queue the signals that stop the process, including those that arrive during startup."""
    received: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, received.put_nowait, number)
    try:
        yield received
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _drain(app: web.Application, grace_s: float, stopping: asyncio.Queue[signal.Signals]) -> None:
    """Wait for requests and runs to finish. The port remains open, so that /readyz can report the drain."""
    app[TRAFFIC].is_draining = True
    app[STREAMS].close()
    log.info("api_draining", pid=os.getpid(), grace_s=grace_s)
    second_signal = asyncio.create_task(stopping.get())
    finished = asyncio.create_task(_finish_work(app))
    done, waiting = await asyncio.wait({second_signal, finished}, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    if finished not in done:
        log.warning("api_grace_over", pid=os.getpid())


async def _finish_work(app: web.Application) -> None:
    """Wait until no request is in flight and every run of this process is stored."""
    await app[TRAFFIC].idle()
    while len(app[RUNS].owner):  # noqa: ASYNC110 - the owner of the runs has no event for it
        await asyncio.sleep(RUNS_POLL_S)

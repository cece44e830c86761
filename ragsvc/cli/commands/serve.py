"""`ragsvc serve`: runs the API, in one process or in several that share a port."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import typer

from ragsvc.cli.exits import BadUsage
from ragsvc.cli.fleet import Fleet
from ragsvc.http import server
from ragsvc.settings.settings import load_settings
from ragsvc.telemetry.logs import configure_logging
from ragsvc.telemetry.traces import configure_traces


def serve(
    *,
    host: Annotated[str | None, typer.Option(help="Address to listen on; HOST if omitted.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; PORT if omitted.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes that share the port.")] = 1,
    reuse_port: Annotated[
        bool, typer.Option("--reuse-port", help="Let other processes listen on the same port.")
    ] = False,
) -> None:
    """Serve the API until SIGTERM or Ctrl-C. Requests in flight are finished first; a second signal stops at once."""
    # Passed through the environment, so that they are validated like every setting and reach every process.
    os.environ.update({name: str(value) for name, value in (("HOST", host), ("PORT", port)) if value is not None})
    settings = load_settings()
    configure_logging(settings)
    if workers == 1:
        configure_traces(settings, service="ragsvc-api")
        server.serve(settings, reuse_port=reuse_port)
        return
    if settings.api.port == 0:
        raise BadUsage("--workers needs a shared port: --port 0 gives each process a different one")
    code = asyncio.run(Fleet(("serve", "--reuse-port"), workers).run())
    if code:
        raise typer.Exit(code)

"""`ragsvc jobs`: sweeps for lost jobs; needs a server's settings."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import typer

from ragsvc.cli.ops.context import say_stores
from ragsvc.cli.options import Json  # noqa: TC001 - typer reads the annotations
from ragsvc.cli.output import print_json, print_line
from ragsvc.jobs.sweeper import sweep_jobs
from ragsvc.resources import open_resources
from ragsvc.settings.settings import load_settings
from ragsvc.telemetry.logs import configure_logging

if TYPE_CHECKING:
    from ragsvc.settings.settings import Settings

jobs = typer.Typer()


@jobs.callback()
def _jobs() -> None:
    """Maintain the job queues."""


@jobs.command()
def sweep(*, as_json: Json = False) -> None:
    """Re-send lost notifications, rescue jobs of silent workers, and reconcile the lists of dead letters.

    Every process does this every SWEEP_INTERVAL_S seconds. Run it by hand if no process is running yet, for example
    after a restore.
    Reads DATABASE_URL, REDIS_URL and QUEUE_PREFIX.
    """
    settings = load_settings()
    configure_logging(settings)
    say_stores(settings)
    swept = asyncio.run(_sweep(settings))
    if as_json:
        print_json({"swept": swept})
        return
    print_line(f"notifications sent again for lost jobs: {swept}" if swept else "no job was lost")


async def _sweep(settings: Settings) -> int:
    async with open_resources(settings, pool_size=2) as resources:
        return await sweep_jobs(resources)

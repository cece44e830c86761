"""`ragsvc jobs`: looks at once for jobs that were lost on the way; needs the settings of a server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import typer

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
    """Look after the jobs."""


@jobs.command()
def sweep(*, as_json: Json = False) -> None:
    """Ring again for jobs that Redis forgot, take over those of silent workers, and mend the lists of dead letters.

    Every process does it each SWEEP_INTERVAL_S; this does it now, as after a restore, when none runs yet.
    Reads DATABASE_URL, REDIS_URL and QUEUE_PREFIX.
    """
    settings = load_settings()
    configure_logging(settings)
    swept = asyncio.run(_sweep(settings))
    if as_json:
        print_json({"swept": swept})
        return
    print_line(f"{swept} jobs were lost on the way and rung for again" if swept else "nothing was lost")


async def _sweep(settings: Settings) -> int:
    async with open_resources(settings, pool_size=2) as resources:
        return await sweep_jobs(resources)

"""`ragsvc check`: checks the services that a server depends on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import typer

from ragsvc.cli.exits import REFUSED
from ragsvc.cli.options import Json  # noqa: TC001 - typer reads the annotations
from ragsvc.cli.output import print_json, print_line
from ragsvc.preflight import check_service
from ragsvc.resources import open_resources
from ragsvc.settings.settings import load_settings
from ragsvc.telemetry.logs import configure_logging

if TYPE_CHECKING:
    from ragsvc.preflight import Finding
    from ragsvc.settings.settings import Settings


def check(*, as_json: Json = False) -> None:
    """Check Postgres and its schema, Redis, the object store and its permissions, the models and the admin keys.

    Reads a server's settings. Stores and removes a small object, embeds one text, and asks each chat model for a word.
    """
    settings = load_settings()
    configure_logging(settings.changed({"log_level": "error", "log_format": "console"}))
    # If Postgres is unreachable or has another schema, this fails just as starting a server does.
    findings = asyncio.run(_check(settings))
    if as_json:
        print_json({"data": [{"part": one.part, "faults": one.faults} for one in findings]})
    else:
        for one in findings:
            print_line(f"{one.part}: {'; '.join(one.faults) or 'ok'}")
    if any(one.faults for one in findings):
        raise typer.Exit(REFUSED)


async def _check(settings: Settings) -> list[Finding]:
    async with open_resources(settings, pool_size=2) as resources:
        return await check_service(resources)

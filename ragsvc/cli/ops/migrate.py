"""`ragsvc migrate`: migrates the database's schema."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ragsvc.cli.options import Json  # noqa: TC001 - typer reads the annotations
from ragsvc.cli.output import print_json, print_line, print_table
from ragsvc.db import migrations
from ragsvc.settings.settings import load_settings
from ragsvc.telemetry.logs import configure_logging

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ragsvc.db.connections.roles import RolesFault
    from ragsvc.db.migrations import Migration


def migrate(
    *,
    status: Annotated[bool, typer.Option("--status", help="Only list applied and pending migrations.")] = False,
    new_embedding_space: Annotated[
        bool,
        typer.Option(
            "--new-embedding-space",
            help="Begin a new embedding space although documents are in another; they must be ingested again.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Migrate the database to this version's schema. Running it again changes nothing.

    Reads MIGRATION_DATABASE_URL, else DATABASE_URL. Concurrent runs are safe: one migrates, the others wait.
    """
    settings = load_settings()
    configure_logging(settings)
    if status:
        _print_status(asyncio.run(migrations.migration_status(settings)), as_json=as_json)
        return
    applied = asyncio.run(
        migrations.migrate(settings, accept_new_space=new_embedding_space, on_roles_fault=_print_roles_fault)
    )
    if as_json:
        print_json({"applied": [migration.name for migration in applied]})
        return
    for migration in applied:
        print_line(f"applied {migration.name}")
    if not applied:
        print_line("nothing to do: the schema is up to date")


def _print_roles_fault(fault: RolesFault) -> None:
    print(f"warning: {fault.reason}. To enable it, have an administrator run:", file=sys.stderr)
    for statement in fault.statements:
        print(f"  {statement};", file=sys.stderr)
    print("then run `ragsvc migrate` again", file=sys.stderr)


def _print_status(known: Sequence[Migration], *, as_json: bool) -> None:
    if as_json:
        shown = [{"name": one.name, "checksum": one.checksum, "applied_at": one.applied_at} for one in known]
        print_json({"data": shown})
    else:
        print_table(("MIGRATION", "APPLIED"), [(one.name, one.applied_at or "pending") for one in known])

"""`ragsvc files`: lists, shows and deletes files."""

from __future__ import annotations

from typing import Annotated

import typer

from ragsvc.cli.options import Json  # noqa: TC001 - typer reads the annotations
from ragsvc.cli.output import show_size, show_time
from ragsvc.cli.resources import calls

PATH = "/v1/files"

files = typer.Typer()

File = Annotated[str, typer.Argument(help="A file's id.")]


@files.command("list")
def list_files(*, as_json: Json = False) -> None:
    """List the files, newest first."""
    calls.print_list(
        PATH,
        ("ID", "NAME", "TYPE", "SIZE", "CREATED"),
        lambda one: (
            *(one["id"], one["filename"], one["mime_type"]),
            *(show_size(one["size_bytes"]), show_time(one["created_at"])),
        ),
        as_json=as_json,
    )


@files.command()
def show(file: File, *, as_json: Json = False) -> None:
    """Show a file."""
    calls.print_one(PATH, file, as_json=as_json)


@files.command()
def delete(file: File, *, as_json: Json = False) -> None:
    """Delete a file that no document uses."""
    calls.delete(PATH, file, as_json=as_json)

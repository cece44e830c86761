"""`ragsvc collections`: creates, lists, shows and deletes collections."""

from __future__ import annotations

from typing import Annotated

import typer

from ragsvc.cli.options import Json  # noqa: TC001 - typer reads the annotations
from ragsvc.cli.output import show_time
from ragsvc.cli.resources import calls

PATH = "/v1/collections"

collections = typer.Typer()

Collection = Annotated[str, typer.Argument(help="A collection's id.")]


@collections.command("list")
def list_collections(*, as_json: Json = False) -> None:
    """List the collections, newest first."""
    columns = ("ID", "NAME", "CREATED")
    calls.print_list(PATH, columns, lambda one: (one["id"], one["name"], show_time(one["created_at"])), as_json=as_json)


@collections.command()
def show(collection: Collection, *, as_json: Json = False) -> None:
    """Show a collection."""
    calls.print_one(PATH, collection, as_json=as_json)


@collections.command()
def create(name: Annotated[str, typer.Argument(help="The collection's name.")], *, as_json: Json = False) -> None:
    """Create a collection."""
    calls.create(PATH, {"name": name}, as_json=as_json)


@collections.command()
def delete(collection: Collection, *, as_json: Json = False) -> None:
    """Delete a collection and its documents."""
    calls.delete(PATH, collection, as_json=as_json)

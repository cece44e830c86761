"""`ragsvc workspaces`: creates and lists workspaces, over the admin API."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from ragsvc.cli.client.http import open_client
from ragsvc.cli.options import Json  # noqa: TC001 - typer reads the annotations
from ragsvc.cli.output import print_fields, print_json, print_table, show_time

if TYPE_CHECKING:
    from ragsvc.cli.client.http import JsonObject

workspaces = typer.Typer()


@workspaces.command()
def create(name: Annotated[str, typer.Argument(help="The workspace's name.")], *, as_json: Json = False) -> None:
    """Create a workspace with its bucket and its default collection."""
    created = asyncio.run(_create(name))
    if as_json:
        print_json(created)
    else:
        print_fields(created)


@workspaces.command("list")
def list_workspaces(*, as_json: Json = False) -> None:
    """List the workspaces, newest first."""
    found = asyncio.run(_list())
    if as_json:
        print_json({"data": found})
    else:
        rows = [(one["id"], one["name"], one["bucket"], show_time(one["created_at"])) for one in found]
        print_table(("ID", "NAME", "BUCKET", "CREATED"), rows)


async def _create(name: str) -> JsonObject:
    async with open_client(admin=True) as client:
        return await client.post("/v1/workspaces", body={"name": name})


async def _list() -> list[JsonObject]:
    async with open_client(admin=True) as client:
        return await client.pages("/v1/workspaces")

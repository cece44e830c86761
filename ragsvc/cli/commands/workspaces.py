"""`ragsvc workspaces`: creates, lists and deletes workspaces, over the admin API."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ragsvc.cli.client.http import open_client
from ragsvc.cli.exits import BadUsage
from ragsvc.cli.options import Json  # noqa: TC001 - typer reads the annotations
from ragsvc.cli.output import print_fields, print_json, print_table, show_time
from ragsvc.cli.resources import calls

if TYPE_CHECKING:
    from ragsvc.cli.client.http import JsonObject

workspaces = typer.Typer()


@workspaces.command()
def create(name: Annotated[str, typer.Argument(help="The workspace's name.")], *, as_json: Json = False) -> None:
    """Create a workspace with its bucket and its default collection."""
    created, namesakes = asyncio.run(_create(name))
    if namesakes:
        print(f"note: the name {name} is taken: {', '.join(namesakes)} has it too", file=sys.stderr)
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


@workspaces.command()
def delete(
    workspace: Annotated[str, typer.Argument(help="The workspace's id.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Confirms that everything in it is deleted.")] = False,
    as_json: Json = False,
) -> None:
    """Delete a workspace and everything in it; its keys stop working at once."""
    if not yes:
        raise BadUsage(f"this deletes {workspace} with all its documents and conversations: confirm it with --yes")
    calls.delete("/v1/workspaces", workspace, as_json=as_json, admin=True)


async def _create(name: str) -> tuple[JsonObject, list[str]]:
    """Return the new workspace and the ids of others with the same name."""
    async with open_client(admin=True) as client:
        created = await client.post("/v1/workspaces", body={"name": name})
        known = await client.pages("/v1/workspaces")
        return created, [str(one["id"]) for one in known if one["name"] == name and one["id"] != created["id"]]


async def _list() -> list[JsonObject]:
    async with open_client(admin=True) as client:
        return await client.pages("/v1/workspaces")

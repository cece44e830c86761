"""`ragsvc usage`: shows the token usage of a workspace."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from ragsvc.cli.client.http import open_client
from ragsvc.cli.options import Json, without_none
from ragsvc.cli.output import print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ragsvc.cli.client.http import JsonObject


def usage(
    *,
    first: Annotated[str | None, typer.Option(metavar="DAY", help="The first day, such as 2026-01-31.")] = None,
    last: Annotated[str | None, typer.Option(metavar="DAY", help="The last day; today if omitted.")] = None,
    as_json: Json = False,
) -> None:
    """Show the token usage by day, operation and model."""
    found = asyncio.run(_get(without_none(first=first, last=last)))
    if as_json:
        print_json(found)
        return
    names = list(found["data"][0]) if found["data"] else ["day", "operation", "model"]
    columns = [name.replace("_", " ").upper() for name in names]
    print_table(columns, [[one[name] for name in names] for one in found["data"]])


async def _get(params: Mapping[str, object]) -> JsonObject:
    async with open_client() as client:
        return await client.get("/v1/usage", params=params)

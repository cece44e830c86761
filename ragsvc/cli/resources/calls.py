"""What the commands of all resources do: list, show and delete over the API."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ragsvc.cli.client.http import open_client, segment
from ragsvc.cli.output import print_fields, print_json, print_line, print_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ragsvc.cli.client.http import JsonObject


def print_list(
    path: str, columns: Sequence[str], to_row: Callable[[JsonObject], Sequence[object]], *, as_json: bool
) -> None:
    """Print every item of a list, page by page."""

    async def fetch() -> list[JsonObject]:
        async with open_client() as client:
            return await client.pages(path)

    found = asyncio.run(fetch())
    if as_json:
        print_json({"data": found})
    else:
        print_table(columns, [to_row(one) for one in found])


def print_one(path: str, resource_id: str, *, as_json: bool) -> None:
    """Print one resource."""

    async def fetch() -> JsonObject:
        async with open_client() as client:
            return await client.get(f"{path}/{segment(resource_id)}")

    _print(asyncio.run(fetch()), as_json=as_json)


def create(path: str, body: Mapping[str, object], *, as_json: bool) -> None:
    """Create a resource and print it."""

    async def post() -> JsonObject:
        async with open_client() as client:
            return await client.post(path, body=body)

    _print(asyncio.run(post()), as_json=as_json)


def delete(path: str, resource_id: str, *, as_json: bool, admin: bool = False) -> None:
    """Delete a resource; print its deletion, if there is one to follow."""

    async def call() -> JsonObject:
        async with open_client(admin=admin) as client:
            return await client.delete(f"{path}/{segment(resource_id)}")

    accepted = asyncio.run(call())
    if as_json:
        print_json(accepted or {"id": resource_id, "deleted": True})
    elif "deletion_id" in accepted:
        print_line(f"{resource_id} is being deleted: {accepted['deletion_id']}")
    else:
        print_line(f"{resource_id} is deleted")


def _print(found: JsonObject, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        print_fields({name: value for name, value in found.items() if name != "object"})

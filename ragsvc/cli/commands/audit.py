"""`ragsvc audit`: lists who did what, over the admin API."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

import typer

from ragsvc.cli.client.http import open_client
from ragsvc.cli.options import Json, Limit, without_none
from ragsvc.cli.output import print_json, print_table, show_time

if TYPE_CHECKING:
    from ragsvc.cli.client.http import JsonObject


def audit(
    *,
    workspace: Annotated[str | None, typer.Option(help="Only actions on this workspace.")] = None,
    action: Annotated[str | None, typer.Option(help="Only these actions, such as key.revoked.")] = None,
    actor: Annotated[str | None, typer.Option(help="admin, key, cli or system, or a key's id.")] = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """List the actions of operators and the deletions by keys, newest first."""
    wanted = without_none(workspace_id=workspace, action=action, actor=actor, limit=limit)
    found = asyncio.run(_list(urlencode(wanted)))
    if as_json:
        print_json({"data": found})
    else:
        print_table(("WHEN", "WHO", "DID", "SUBJECT", "FROM"), [_to_row(one) for one in found])


async def _list(query: str) -> list[JsonObject]:
    async with open_client(admin=True) as client:
        page = await client.get(f"/v1/admin/audit?{query}")
        found: list[JsonObject] = page["data"]
        return found


def _to_row(event: JsonObject) -> tuple[object, ...]:
    actor, subject = event["actor"], event["subject"]
    return (
        show_time(event["occurred_at"]),
        f"{actor['kind']} {actor['name']}",
        event["action"],
        subject["id"] if subject else None,
        event["forwarded_for"] or event["ip"],
    )

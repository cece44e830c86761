"""`ragsvc keys`: manages the keys of a workspace, over the admin API."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ragsvc.cli.client.http import open_client, segment
from ragsvc.cli.options import Json, without_none
from ragsvc.cli.output import print_fields, print_json, print_line, print_table, show_time
from ragsvc.domain.workspaces import Scope  # noqa: TC001 - typer reads the annotations

if TYPE_CHECKING:
    from ragsvc.cli.client.http import JsonObject

keys = typer.Typer()

Workspace = Annotated[str, typer.Argument(help="A workspace's id.")]


@keys.command()
def create(
    workspace: Workspace,
    *,
    name: Annotated[str, typer.Option(help="A name that says what the key is for.")],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(metavar="SCOPE", help="read, write, chat or upload; repeat it for more. All if omitted."),
    ] = None,
    expires_at: Annotated[datetime | None, typer.Option(help="When the key expires, in UTC.")] = None,
    as_json: Json = False,
) -> None:
    """Create a key. It is shown only once."""
    expiry = expires_at.replace(tzinfo=UTC).isoformat() if expires_at else None
    created = asyncio.run(_create(workspace, without_none(name=name, scopes=scope or None, expires_at=expiry)))
    if as_json:
        print_json(created)
    else:
        print_fields(created)


@keys.command("list")
def list_keys(workspace: Workspace, *, as_json: Json = False) -> None:
    """List a workspace's keys, without their secrets."""
    found = asyncio.run(_list(workspace))
    if as_json:
        print_json({"data": found})
        return
    print_table(
        ("ID", "NAME", "BEGINS WITH", "SCOPES", "CREATED", "EXPIRES", "LAST USED"),
        [
            (
                one["id"],
                one["name"],
                one["key_prefix"],
                " ".join(one["scopes"]),
                show_time(one["created_at"]),
                show_time(one["expires_at"]),
                show_time(one["last_used_at"]),
            )
            for one in found
        ],
    )


@keys.command()
def rotate(
    workspace: Workspace,
    key: Annotated[str, typer.Argument(help="The key's id.")],
    *,
    overlap_s: Annotated[
        int | None, typer.Option("--overlap-s", min=0, help="How long the old key remains valid; one day if omitted.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Create a key with the same scopes, and let the old one expire later. The new key is shown only once."""
    created = asyncio.run(_rotate(workspace, key, without_none(overlap_s=overlap_s)))
    if as_json:
        print_json(created)
    else:
        print_fields(created)


@keys.command()
def revoke(
    workspace: Workspace, key: Annotated[str, typer.Argument(help="The key's id.")], *, as_json: Json = False
) -> None:
    """Revoke a key immediately."""
    asyncio.run(_revoke(workspace, key))
    if as_json:
        print_json({"id": key, "revoked": True})
    else:
        print_line(f"{key} is revoked")


async def _create(workspace: str, body: JsonObject) -> JsonObject:
    async with open_client(admin=True) as client:
        return await client.post(f"/v1/workspaces/{segment(workspace)}/keys", body=body)


async def _rotate(workspace: str, key: str, body: JsonObject) -> JsonObject:
    async with open_client(admin=True) as client:
        return await client.post(f"/v1/workspaces/{segment(workspace)}/keys/{segment(key)}/rotate", body=body)


async def _list(workspace: str) -> list[JsonObject]:
    async with open_client(admin=True) as client:
        return await client.pages(f"/v1/workspaces/{segment(workspace)}/keys")


async def _revoke(workspace: str, key: str) -> None:
    async with open_client(admin=True) as client:
        await client.delete(f"/v1/workspaces/{segment(workspace)}/keys/{segment(key)}")

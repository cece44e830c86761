"""`ragsvc login`: stores a service and its keys for the other commands."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from ragsvc.cli.client import saved_config
from ragsvc.cli.client.http import open_client
from ragsvc.cli.client.target import Target
from ragsvc.cli.exits import BadUsage
from ragsvc.cli.options import Json  # noqa: TC001 - typer reads the annotations
from ragsvc.cli.output import print_json, print_line


def login(
    url: Annotated[str | None, typer.Argument(help="The service's URL, such as https://rag.example.org.")] = None,
    *,
    api_key: Annotated[
        str | None, typer.Option(envvar="RAGSVC_API_KEY", help="A workspace key; asked for if omitted.")
    ] = None,
    admin_key: Annotated[
        str | None, typer.Option(envvar="RAGSVC_ADMIN_KEY", help="An admin key, for operators.")
    ] = None,
    forget: Annotated[bool, typer.Option("--forget", help="Remove the stored service and its keys.")] = False,
    as_json: Json = False,
) -> None:
    """Store a service and its keys in ~/.config/ragsvc, so that the other commands use them in every folder."""
    if forget:
        removed = saved_config.remove_login()
        _report({"removed": removed}, "the stored keys are removed" if removed else "no keys were stored", as_json)
        return
    if url is None or not url.startswith(("http://", "https://")):
        raise BadUsage("give the service's URL, which starts with http:// or https://")
    if api_key is None and admin_key is None:
        api_key = str(typer.prompt("Workspace key", hide_input=True, err=True))
    url = url.rstrip("/")
    asyncio.run(_check(Target(url, api_key, admin_key)))
    path = saved_config.write_login(url, api_key=api_key, admin_key=admin_key)
    _report({"base_url": url, "path": str(path)}, f"the commands now use {url}; the keys are in {path}", as_json)


async def _check(target: Target) -> None:
    """Check that every given key is accepted."""
    if target.api_key is not None:
        async with open_client(target) as client:
            await client.get("/v1/workspace")
    if target.admin_key is not None:
        async with open_client(target, admin=True) as client:
            await client.get("/v1/admin/queues")


def _report(content: dict[str, object], line: str, as_json: bool) -> None:
    if as_json:
        print_json(content)
    else:
        print_line(line)

"""`ragsvc webhooks`: creates, lists and deletes webhooks."""

from __future__ import annotations

from typing import Annotated

import typer

from ragsvc.cli.options import Json, without_none
from ragsvc.cli.output import show_time
from ragsvc.cli.resources import calls

PATH = "/v1/webhooks"

webhooks = typer.Typer()


@webhooks.command("list")
def list_webhooks(*, as_json: Json = False) -> None:
    """List the webhooks, newest first."""
    calls.print_list(
        PATH,
        ("ID", "URL", "EVENTS", "CREATED"),
        lambda one: (one["id"], one["url"], " ".join(one["events"]), show_time(one["created_at"])),
        as_json=as_json,
    )


@webhooks.command()
def create(
    url: Annotated[str, typer.Argument(help="The URL that is notified.")],
    *,
    event: Annotated[
        list[str] | None, typer.Option(metavar="EVENT", help="An event; repeat it for more. All if omitted.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Create a webhook. Its secret is shown only once."""
    calls.create(PATH, without_none(url=url, events=event or None), as_json=as_json)


@webhooks.command()
def delete(webhook: Annotated[str, typer.Argument(help="A webhook's id.")], *, as_json: Json = False) -> None:
    """Delete a webhook."""
    calls.delete(PATH, webhook, as_json=as_json)

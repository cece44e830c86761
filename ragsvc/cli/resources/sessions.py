"""`ragsvc sessions`: lists, shows and deletes chat sessions."""

from __future__ import annotations

from typing import Annotated

import typer

from ragsvc.cli.client.http import segment
from ragsvc.cli.options import Json  # noqa: TC001 - typer reads the annotations
from ragsvc.cli.output import show_time
from ragsvc.cli.resources import calls

PATH = "/v1/chat/sessions"

sessions = typer.Typer()

Session = Annotated[str, typer.Argument(help="A chat session's id.")]


@sessions.command("list")
def list_sessions(*, as_json: Json = False) -> None:
    """List the chat sessions, newest first."""
    columns = ("ID", "TITLE", "MODEL", "CREATED")
    calls.print_list(
        PATH,
        columns,
        lambda one: (one["id"], one["title"], one["model"], show_time(one["created_at"])),
        as_json=as_json,
    )


@sessions.command()
def show(session: Session, *, as_json: Json = False) -> None:
    """Show a chat session."""
    calls.print_one(PATH, session, as_json=as_json)


@sessions.command()
def messages(session: Session, *, as_json: Json = False) -> None:
    """List the messages of a chat session."""
    columns = ("ID", "ROLE", "STATUS", "CONTENT")
    calls.print_list(
        f"{PATH}/{segment(session)}/messages",
        columns,
        lambda one: (one["id"], one["role"], one["status"], one["content"]),
        as_json=as_json,
    )


@sessions.command()
def delete(session: Session, *, as_json: Json = False) -> None:
    """Delete a chat session and its messages."""
    calls.delete(PATH, session, as_json=as_json)

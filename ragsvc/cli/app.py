"""Assembles the commands. A module is imported only when its command runs, so a server loads no client libraries."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.main import get_command

from ragsvc.cli.exits import explain, say

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Command:
    """The folder of a command's module, and its line in the help."""

    folder: str
    short_help: str


# `a-command` is the function or typer app `a_command` in `ragsvc.cli.<folder>.a_command`.
COMMANDS = {
    "serve": Command("commands", "Serve the API."),
    "migrate": Command("ops", "Migrate the database to this version's schema."),
    "dev": Command("commands", "Run the whole service on this machine."),
    "demo": Command("commands", "Start the whole service, show it at work, and stop it."),
    "samples": Command("commands", "Copy the sample documents to a folder."),
    "upload": Command("commands", "Upload files and follow them until they are ready."),
    "search": Command("commands", "Search the documents."),
    "ask": Command("commands", "Ask a question; stream the answer and its citations."),
    "documents": Command("commands", "List documents; show one, its text or its chunks."),
    "delete": Command("commands", "Delete documents and show the receipts."),
    "collections": Command("resources", "Create, list, show and delete collections."),
    "sessions": Command("resources", "List, show and delete chat sessions."),
    "files": Command("resources", "List, show and delete files."),
    "webhooks": Command("resources", "Create, list and delete webhooks."),
    "usage": Command("resources", "Show the token usage."),
    "queues": Command("commands", "Show, pause and resume the queues."),
    "dlq": Command("ops", "Show, replay and purge dead letters."),
    "check": Command("ops", "Check that everything a server needs is set up correctly."),
    "worker-alive": Command("ops", "Check that a worker's loop is running, for a supervisor."),
    "jobs": Command("ops", "Sweep for lost jobs."),
    "storage": Command("ops", "Compare the object store with the database."),
    "audit": Command("commands", "List who did what."),
    "login": Command("commands", "Store a service and its keys for the other commands."),
    "workspaces": Command("commands", "Create, list and delete workspaces."),
    "keys": Command("commands", "Create, list, rotate and revoke a workspace's keys."),
}


def run(args: Sequence[str] | None = None) -> int:
    """Run a command line (by default the process's own) and return its exit code; errors are one line on stderr."""
    args = list(sys.argv[1:] if args is None else args)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # the command must not fail on a terminal that lacks “quotes”
    try:
        command = get_command(build_app(args[0] if args else None))
        code = command.main(args or ["--help"], prog_name="ragsvc", standalone_mode=False)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001 - the outermost boundary: users see no traceback
        message, code = explain(error)
        if message:
            say(message)
    return code or 0


def build_app(wanted: str | None) -> typer.Typer:
    """Return the application. It loads the wanted command; of the others it has only the names and help lines."""
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.callback()(_ragsvc)
    for name, command in COMMANDS.items():
        loaded = _load(command, name.replace("-", "_")) if name == wanted else _not_loaded
        if isinstance(loaded, typer.Typer):
            app.add_typer(loaded, name=name, help=command.short_help)
        else:
            app.command(name, short_help=command.short_help)(loaded)
    return app


def _load(command: Command, name: str) -> Any:  # noqa: ANN401 - a function, or a typer app
    return getattr(import_module(f"ragsvc.cli.{command.folder}.{name}"), name)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(version("ragsvc"))
        raise typer.Exit


def _ragsvc(
    *,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
    ] = False,
) -> None:
    """Answer questions from documents, with citations that can be checked.

    Client commands read RAGSVC_URL, RAGSVC_API_KEY and RAGSVC_ADMIN_KEY; if these are unset, they use the service
    of `ragsvc dev` in this folder or one above, then that of `ragsvc login`. Exit codes: 1 refused, 2 wrong usage, 3
    service unreachable.
    """


def _not_loaded() -> None:
    raise AssertionError("only the wanted command can run")

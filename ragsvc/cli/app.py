"""Assembles the commands; a command's module is imported only to run it, so a server carries no client libraries."""

from __future__ import annotations

import io
import sys
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.main import get_command

from ragsvc.cli.failures import explain, say

if TYPE_CHECKING:
    from collections.abc import Sequence

# A command `name` is `ragsvc.cli.name.name`: a function, or a typer app of further commands; a dash is an underscore.
COMMANDS = {
    "serve": "Serve the API.",
    "migrate": "Bring the database to this version's schema.",
    "dev": "Run the whole service on this machine.",
    "demo": "Show the whole service at work, then stop it.",
    "upload": "Upload files and follow them until they are ready.",
    "search": "Search the documents.",
    "ask": "Ask a question; stream the answer and its citations.",
    "documents": "List documents; show one, its text or its chunks.",
    "delete": "Delete documents and show the receipts.",
    "queues": "Show, pause and resume the queues.",
    "dlq": "Show, replay and purge dead letters.",
    "check": "Check whether everything that a server needs is as it has to be.",
    "worker-alive": "Tell whether a worker's loop turns, for a supervisor.",
    "jobs": "Look for jobs that were lost.",
    "storage": "Compare the object store with the database.",
    "audit": "List who did what.",
    "workspaces": "Create and list workspaces.",
    "keys": "Create, list, rotate and revoke a workspace's keys.",
}


def run(args: Sequence[str] | None = None) -> int:
    """Run a command line (that of the process by default) and return its exit code; errors are one line on stderr."""
    args = list(sys.argv[1:] if args is None else args)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without “quotes” shall not end the command
    try:
        command = get_command(build_app(args[0] if args else None))
        code = command.main(args or ["--help"], prog_name="ragsvc", standalone_mode=False)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001 - the boundary: nobody gets to see a traceback
        message, code = explain(error)
        if message:
            say(message)
    return code or 0


def build_app(wanted: str | None) -> typer.Typer:
    """Return the application with the wanted command in place, and with names and help lines of the others."""
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.callback()(_ragsvc)
    for name, short_help in COMMANDS.items():
        command = _load(name.replace("-", "_")) if name == wanted else _not_loaded
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, help=short_help)
        else:
            app.command(name, short_help=short_help)(command)
    return app


def _load(name: str) -> Any:  # noqa: ANN401 - a function, or a typer app
    return getattr(import_module(f"ragsvc.cli.{name}"), name)


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

    The client's commands read RAGSVC_URL, RAGSVC_API_KEY and RAGSVC_ADMIN_KEY; where these are unset, they use the
    service that `ragsvc dev` keeps in ./.ragsvc. Exit codes: 1 refused, 2 wrong usage, 3 service away.
    """


def _not_loaded() -> None:
    raise AssertionError("only the wanted command is run")

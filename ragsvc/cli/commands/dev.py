"""`ragsvc dev`: runs the whole service on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ragsvc.cli.client import saved_config
from ragsvc.cli.exits import BadUsage
from ragsvc.errors.base import StartupRefused

if TYPE_CHECKING:
    from ragsvc.devstack.ready_file import Access


DATA_DIR = Path(".ragsvc")


class _Console(Console):
    """A console that survives a broken pipe, so that the stack keeps running."""

    def on_broken_pipe(self) -> None:
        """Print nothing more, not even when the process flushes its output at exit."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def dev(
    *,
    data_dir: Annotated[Path, typer.Option(help="Directory for all data.")] = DATA_DIR,
    port: Annotated[
        int, typer.Option(envvar="PORT", min=0, max=65535, help="Port of the API; 0 picks a free one.")
    ] = 8080,
    ready_file: Annotated[
        Path | None,
        typer.Option(help="Another file to write when all is ready, like <data-dir>/ready.json: URLs, keys and pids."),
    ] = None,
    ingestion_workers: Annotated[int, typer.Option(min=1, help="Ingestion worker processes.")] = 1,
    deletion_workers: Annotated[int, typer.Option(min=1, help="Deletion worker processes.")] = 1,
    api_workers: Annotated[int, typer.Option(min=1, help="API processes.")] = 1,
) -> None:
    """Run Postgres, Redis, S3, models, API and workers on this machine until Ctrl-C.

    DATABASE_URL, REDIS_URL and S3_ENDPOINT_URL, if set, replace the built-in servers. The built-in models are MiniLM
    for embeddings and an extractive answerer, which quotes sources and does not generate. OPENAI_BASE_URL replaces the
    answerer; EMBEDDING_BASE_URL, or EMBEDDING_MODEL beside OPENAI_BASE_URL, replaces MiniLM. Other settings are passed
    to the API and the workers, except METRICS_PORT: a worker picks a free port and logs it.
    """
    try:
        from ragsvc.devstack.supervisor import Options, Supervisor  # noqa: PLC0415
    except ModuleNotFoundError as missing:
        raise StartupRefused(f"`ragsvc dev` needs the extra ragsvc[devstack]: {missing}") from missing
    if ready_file is not None:
        _check_ready_file(ready_file, data_dir)
    console = _Console(soft_wrap=True, highlight=False)
    options = Options(
        data_dir=data_dir.resolve(),
        port=port,
        ready_file=ready_file.resolve() if ready_file else None,
        api_workers=api_workers,
        ingestion_workers=ingestion_workers,
        deletion_workers=deletion_workers,
    )
    supervisor = Supervisor(
        options,
        report=lambda line: _say(console, line, style="dim"),
        announce=lambda access: _announce(console, access, data_dir=options.data_dir),
    )
    asyncio.run(supervisor.run())
    _say(console, "stopped", style="dim")


def _check_ready_file(ready_file: Path, data_dir: Path) -> None:
    """Refuse a ready file that cannot be written, before anything is started."""
    folder = ready_file.resolve().parent
    # The data directory is created if missing; other folders are not.
    is_made = folder == data_dir.resolve() and not folder.exists()
    if ready_file.is_dir() or not (is_made or (folder.is_dir() and os.access(folder, os.W_OK))):
        raise BadUsage(f"--ready-file: {ready_file} cannot be written: it must be a file in an existing folder")


def _say(console: Console, line: str, *, style: str = "") -> None:
    console.print(line, style=style, markup=False)


def _announce(console: Console, access: Access, *, data_dir: Path) -> None:
    # Only the usual data directory: those of demos and tests are temporary.
    if data_dir.name == DATA_DIR.name:
        with contextlib.suppress(OSError):
            saved_config.write_dev_ready_file(data_dir / "ready.json")
    from ragsvc.devstack.model_server.extractive import LABEL, NAME  # noqa: PLC0415
    from ragsvc.settings.settings import FIELDS  # noqa: PLC0415

    model = access.env.get("CHAT_MODEL") or FIELDS["chat_model"].default
    embeddings = access.env.get("EMBEDDING_MODEL") or FIELDS["embedding_model"].default
    embeddings_url = access.env.get("EMBEDDING_BASE_URL") or access.env["OPENAI_BASE_URL"]
    lines = {
        "ragsvc is ready at": f"{access.base_url} (API reference: {access.base_url}/docs)",
        "workspace key": access.tenant.api_key,
        "chat model": f"{model}: {LABEL}" if model == NAME else f"{model} at {access.env['OPENAI_BASE_URL']}",
        "embedding model": f"{embeddings} at {embeddings_url}",
        "logs": str(data_dir / "logs"),
        "try": f"curl -H 'Authorization: Bearer {access.tenant.api_key}' {access.base_url}/v1/workspace",
    }
    for name, value in lines.items():
        _say(console, f"{name + ':':<20}{value}")
    for notice in access.notices:
        _say(console, f"note: {notice}", style="yellow")

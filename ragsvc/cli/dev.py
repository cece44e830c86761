"""`ragsvc dev`: the whole service on this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from ragsvc.embedded.supervisor import Access


def dev(
    *,
    data_dir: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path(".ragsvc"),
    port: Annotated[
        int, typer.Option(envvar="PORT", min=0, max=65535, help="Port of the API; 0 takes a free one.")
    ] = 8080,
    ready_file: Annotated[
        Path | None, typer.Option(help="Written once all is ready, like <data-dir>/ready.json: URLs, keys and pids.")
    ] = None,
    ingestion_workers: Annotated[int, typer.Option(min=1, help="Ingestion worker processes.")] = 1,
    deletion_workers: Annotated[int, typer.Option(min=1, help="Deletion worker processes.")] = 1,
    api_workers: Annotated[int, typer.Option(min=1, help="API processes.")] = 1,
) -> None:
    """Run Postgres, Redis, S3, models, API and workers on this machine until Ctrl-C.

    DATABASE_URL, REDIS_URL, S3_ENDPOINT_URL and OPENAI_BASE_URL, where set, are used instead of the embedded servers;
    every other setting reaches the API and the workers too. The built-in models are MiniLM for embeddings and an
    extractive answerer: it quotes sources and does not generate.
    """
    from ragsvc.embedded.supervisor import Options, Supervisor  # noqa: PLC0415  # needs the extra `embedded`

    console = Console(soft_wrap=True, highlight=False)
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
        tell=lambda line: console.print(line, style="dim", markup=False),
        announce=lambda access: _announce(console, access, logs=options.data_dir / "logs"),
    )
    asyncio.run(supervisor.run())
    console.print("stopped", style="dim")


def _announce(console: Console, access: Access, *, logs: Path) -> None:
    from ragsvc.embedded.extractive import LABEL, NAME  # noqa: PLC0415

    model = access.env.get("CHAT_MODEL", "")
    lines = {
        "ragsvc is ready at": f"{access.base_url} (its contract: {access.base_url}/docs)",
        "workspace key": access.tenant.api_key,
        "chat model": f"{model}: {LABEL}" if model == NAME else model,
        "logs": str(logs),
        "try": f"curl -H 'Authorization: Bearer {access.tenant.api_key}' {access.base_url}/v1/workspace",
    }
    for name, value in lines.items():
        console.print(f"{name + ':':<20}{value}", markup=False)

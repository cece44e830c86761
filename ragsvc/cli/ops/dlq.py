"""`ragsvc dlq`: dead letters for operators, over the admin API or, on a server, in Postgres."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from datetime import datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated

import typer

from ragsvc.cli.exits import CommandFailed
from ragsvc.cli.ops import dlq_options
from ragsvc.cli.ops.dead_letter_access import open_access
from ragsvc.cli.options import Json  # noqa: TC001 - typer reads the annotations
from ragsvc.cli.output import print_fields, print_json, print_line, print_table, shorten, show_time
from ragsvc.domain.jobs import DeadLetterFilter, Queue
from ragsvc.errors.requests import ReplayRunning

if TYPE_CHECKING:
    from ragsvc.jobs.dead_letters import DiscardResult, ReplayResult

MESSAGE_CHARS = 80
FILENAME_CHARS = 40
REPLAY_POLL_S = 0.5
CONFIRM_HINT = "; run again with --yes to do it"

dlq = typer.Typer(
    epilog="Acts on the service of RAGSVC_URL or, without it, on the Postgres of DATABASE_URL, or else on the service"
    " that the other commands use."
)

QueueName = Annotated[Queue, typer.Argument(help="The queue.")]
Code = Annotated[str | None, typer.Option(help="Only dead letters with this error code.")]
Workspace = Annotated[str | None, typer.Option(help="Only dead letters of this workspace.")]
Since = Annotated[datetime | None, typer.Option(help="Only dead letters that failed at or after this time, in UTC.")]
Ids = Annotated[
    list[str] | None,
    typer.Option("--id", metavar="ID", help="The id of a dead letter, its job or its document; can be repeated."),
]
All = Annotated[bool, typer.Option("--all", help="All dead letters; without --yes only shows how many.")]
Yes = Annotated[bool, typer.Option("--yes", help="Confirms --all.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing and show only how many match.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Maximum number of dead letters.")]


@dlq.command("list")
def list_entries(
    queue: QueueName,
    *,
    code: Code = None,
    workspace: Workspace = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of dead letters.")] = 20,
    offset: Annotated[int, typer.Option(min=0, help="Number of dead letters to skip.")] = 0,
    as_json: Json = False,
) -> None:
    """List dead letters, newest first."""
    wanted = DeadLetterFilter(code=code, workspace_id=dlq_options.read_id("ws", workspace) if workspace else None)

    async def find() -> list[dict[str, object]]:
        async with open_access() as access:
            return await access.list(queue, wanted, limit=limit, offset=offset)

    found = asyncio.run(find())
    if as_json:
        print_json({"data": found})
        return
    columns = ("ENTRY", "SUBJECT", "WORKSPACE", "FILE", "CODE", "FAULT", "MESSAGE", "ATTEMPTS", "LAST FAILED")
    print_table(columns, [_row(entry) for entry in found])


@dlq.command()
def show(
    queue: QueueName,
    entry: Annotated[str, typer.Argument(help="The id of the dead letter, its job or its document.")],
    *,
    as_json: Json = False,
) -> None:
    """Show a dead letter."""

    wanted = dlq_options.read_entry(entry)

    async def find() -> dict[str, object] | None:
        async with open_access() as access:
            return await access.get(queue, *wanted)

    found = asyncio.run(find())
    if found is None:
        raise CommandFailed(f"no dead letter {entry} in {queue}")
    if as_json:
        print_json(found)
    else:
        _print_entry(found)


@dlq.command()
def counts(queue: QueueName, *, as_json: Json = False) -> None:
    """Count dead letters by error code."""

    async def count() -> dict[str, int]:
        async with open_access() as access:
            return await access.count(queue)

    counted = asyncio.run(count())
    if as_json:
        print_json({"queue": queue, "counts": counted})
    else:
        print_table(("CODE", "DEAD LETTERS"), sorted(counted.items(), key=itemgetter(1), reverse=True))


@dlq.command()
def replay(
    queue: QueueName,
    *,
    ids: Ids = None,
    every: All = False,
    code: Code = None,
    workspace: Workspace = None,
    since: Since = None,
    rate: Annotated[float | None, typer.Option(min=0.01, max=1000, help="Dead letters per second.")] = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Requeue dead letters, each exactly once; waits for a replay of the same queue that is already running."""
    selection = dlq_options.select(ids=ids, every=every, code=code, workspace=workspace, since=since)
    unconfirmed = every and not yes
    result = asyncio.run(_replay(queue, selection, rate_per_s=rate, limit=limit, dry_run=dry_run or unconfirmed))
    if as_json:
        print_json(asdict(result))
    elif result.dry_run:
        print_line(f"would replay {result.matched} from {queue}{CONFIRM_HINT if unconfirmed else ''}")
    else:
        print_line(f"replayed {result.replayed} of {result.matched} from {queue}, {result.superseded} superseded")


@dlq.command()
def purge(
    queue: QueueName,
    *,
    ids: Ids = None,
    every: All = False,
    code: Code = None,
    workspace: Workspace = None,
    since: Since = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Discard dead letters permanently; their jobs become `discarded`. Deletions cannot be discarded."""
    selection = dlq_options.select(ids=ids, every=every, code=code, workspace=workspace, since=since)
    unconfirmed = every and not yes
    is_dry_run = dry_run or unconfirmed

    async def discard() -> DiscardResult:
        async with open_access() as access:
            return await access.discard(queue, selection, limit=limit, dry_run=is_dry_run)

    purged = asyncio.run(discard())
    if as_json:
        print_json(asdict(purged))
    elif is_dry_run:
        print_line(f"would discard {purged.matched} from {queue}{CONFIRM_HINT if unconfirmed else ''}")
    else:
        print_line(f"discarded {purged.discarded} of {purged.matched} from {queue}")
        if purged.refused:
            print_line(f"{purged.refused} are deletions, which cannot be discarded: replay them")


async def _replay(
    queue: Queue, selection: DeadLetterFilter, *, rate_per_s: float | None, limit: int | None, dry_run: bool
) -> ReplayResult:
    async with open_access() as access:
        is_waiting = False
        while True:
            try:
                return await access.replay(queue, selection, rate_per_s=rate_per_s, limit=limit, dry_run=dry_run)
            except ReplayRunning:
                if not is_waiting:
                    print(f"another replay of {queue} is running; waiting for it to end", file=sys.stderr)
                is_waiting = True
                await asyncio.sleep(REPLAY_POLL_S)


def _print_entry(entry: dict[str, object]) -> None:
    """Print the fields, then the traceback line by line."""
    error = dict(entry["error"]) if isinstance(entry["error"], dict) else {}
    traceback = str(error.pop("traceback", "") or "")
    print_fields({**entry, "error": error})
    if traceback:
        print_line("")
        for line in traceback.splitlines():
            print_line(line)


def _row(entry: dict[str, object]) -> tuple[object, ...]:
    error = entry["error"] if isinstance(entry["error"], dict) else {}
    failed_at = entry["last_failed_at"]
    return (
        entry["entry_id"],
        entry["document_id"] or entry["kind"],
        entry["workspace_name"] or entry["workspace_id"],
        shorten(str(entry["filename"] or ""), FILENAME_CHARS),
        error.get("code"),
        entry["fault"],
        shorten(str(error.get("message", "")), MESSAGE_CHARS),
        entry["attempts"],
        show_time(failed_at.isoformat() if isinstance(failed_at, datetime) else str(failed_at)) if failed_at else None,
    )

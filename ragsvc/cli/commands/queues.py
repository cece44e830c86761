"""`ragsvc queues`: shows, pauses and resumes the queues, over the admin API."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from ragsvc.cli.client.http import open_client
from ragsvc.cli.options import Json, without_none
from ragsvc.cli.output import print_json, print_line, print_table, show_time
from ragsvc.domain.jobs import Queue

if TYPE_CHECKING:
    from ragsvc.cli.client.http import JsonObject

queues = typer.Typer(invoke_without_command=True)

QueueName = Annotated[Queue, typer.Argument(help="The queue.")]


@queues.callback()
def show_by_default(context: typer.Context) -> None:
    """Show, pause and resume the queues. Without a command, show them."""
    if context.invoked_subcommand is None:
        list_queues()


@queues.command("list")
def list_queues(*, as_json: Json = False) -> None:
    """Show every queue: waiting, running and dead jobs, rates, and what its workers are doing."""
    found = asyncio.run(_list())
    if as_json:
        print_json(found)
        return
    print_table(
        ("QUEUE", "QUEUED", "READY", "RUNNING", "DEAD", "WORKERS", "OLDEST READY", "DONE/MIN", "DEAD/MIN", "PAUSED"),
        [_to_row(one) for one in found["data"]],
    )
    for one in found["data"]:
        if not one["workers"]:
            print_line(_describe_absence(one))
    if leases := [lease for one in found["data"] for lease in one["leases"]]:
        print_table(
            ("JOB", "SUBJECT", "STAGE", "PROGRESS", "RUNNING", "LEASE", "ATTEMPTS", "RESCUES", "WORKER"),
            [_to_lease_row(lease) for lease in leases],
        )


def _to_row(queue: JsonObject) -> tuple[object, ...]:
    age_s = queue["oldest_ready_age_s"]
    return (
        *(queue["queue"], queue["queued"], queue["ready"], queue["running"], queue["dead"], queue["workers"]),
        None if age_s is None else f"{age_s:.1f} s",
        *(queue["done_per_minute"], queue["dead_per_minute"]),
        _describe_pause(queue) if queue["paused"] else "no",
    )


def _describe_absence(queue: JsonObject) -> str:
    age_s = queue["workers_last_seen_s"]
    since = "in the last hour" if age_s is None else f"for {age_s:.0f} s"
    return f"No {queue['queue']} worker has been seen {since}."


def _describe_pause(queue: JsonObject) -> str:
    since = f"since {show_time(queue['paused_since'])}"
    probe = f", next probe {show_time(queue['next_probe_at'])}" if queue["next_probe_at"] else ""
    return f"{queue['reason'] or 'manually'} ({since}{probe})"


def _to_lease_row(lease: JsonObject) -> tuple[object, ...]:
    return (
        *(lease["job_id"], lease["subject"]["id"], lease["stage"]),
        f"{lease['progress']:.0%}",
        *(f"{lease['running_s']:.0f} s", f"{lease['lease_left_s']:.0f} s left"),
        *(lease["attempts"], lease["rescues"], lease["worker"]),
    )


@queues.command()
def pause(
    queue: QueueName,
    *,
    reason: Annotated[str | None, typer.Option(help="The reason, shown to other operators.")] = None,
    as_json: Json = False,
) -> None:
    """Stop starting jobs of a queue; running ones finish."""
    _show_state(asyncio.run(_post(f"/v1/admin/queues/{queue}/pause", without_none(reason=reason))), as_json=as_json)


@queues.command()
def resume(queue: QueueName, *, as_json: Json = False) -> None:
    """Start jobs of a paused queue again."""
    _show_state(asyncio.run(_post(f"/v1/admin/queues/{queue}/resume", None)), as_json=as_json)


def _show_state(state: JsonObject, *, as_json: bool) -> None:
    if as_json:
        print_json(state)
    else:
        print_line(f"{state['queue']}: {'paused' if state['paused'] else 'running'}")


async def _list() -> JsonObject:
    async with open_client(admin=True) as client:
        return await client.get("/v1/admin/queues")


async def _post(path: str, body: JsonObject | None) -> JsonObject:
    async with open_client(admin=True) as client:
        return await client.post(path, body=body)

"""`ragsvc queues`: how deep the queues are, and stopping and starting them; over the admin API."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from ragsvc.cli.client import open_client
from ragsvc.cli.options import Json, without_none
from ragsvc.cli.output import print_json, print_line, print_table
from ragsvc.models.jobs import Queue

if TYPE_CHECKING:
    from ragsvc.cli.client import JsonObject

queues = typer.Typer()

QueueName = Annotated[Queue, typer.Argument(help="The queue.")]


@queues.command("list")
def list_queues(*, as_json: Json = False) -> None:
    """Show every queue: what waits, runs and is dead, and how long the oldest waits."""
    found = asyncio.run(_list())
    if as_json:
        print_json(found)
        return
    print_table(
        ("QUEUE", "QUEUED", "READY", "RUNNING", "DEAD", "OLDEST READY", "PAUSED"),
        [
            (
                one["queue"],
                one["queued"],
                one["ready"],
                one["running"],
                one["dead"],
                None if one["oldest_ready_age_s"] is None else f"{one['oldest_ready_age_s']:.1f} s",
                (one["reason"] or "yes") if one["paused"] else "no",
            )
            for one in found["data"]
        ],
    )


@queues.command()
def pause(
    queue: QueueName,
    *,
    reason: Annotated[str | None, typer.Option(help="Shown to others.")] = None,
    as_json: Json = False,
) -> None:
    """Let no further job of a queue begin."""
    _tell(asyncio.run(_post(f"/v1/admin/queues/{queue}/pause", without_none(reason=reason))), as_json=as_json)


@queues.command()
def resume(queue: QueueName, *, as_json: Json = False) -> None:
    """Let the jobs of a queue begin again."""
    _tell(asyncio.run(_post(f"/v1/admin/queues/{queue}/resume", None)), as_json=as_json)


def _tell(state: JsonObject, *, as_json: bool) -> None:
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

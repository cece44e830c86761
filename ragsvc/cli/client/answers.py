"""An answer as it streams in: its events over however many connections, its text, then its citations one a line."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Protocol

from ragsvc.cli.client.http import STREAM_TIMEOUT, segment
from ragsvc.cli.client.sse import HEADERS, Event, follow, read_events
from ragsvc.cli.exits import CommandFailed, Unreachable
from ragsvc.cli.output import print_json, print_line, print_text, shorten, show_place

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ragsvc.cli.client.http import Client, JsonObject

ENDS = frozenset({"message.completed", "run.failed", "run.cancelled", "run.interrupted"})
QUOTE_CHARS = 300
CANCEL_TIMEOUT_S = 2.0


class Reader(Protocol):
    """Whoever takes an answer's events."""

    def take(self, event: Event) -> None:
        """Take one event."""


async def ask(client: Client, session_id: str, question: JsonObject, *, reader: Reader) -> None:
    """Post a message and hand the events of its answer to the reader; cancelled, cancel the run too.

    Raises:
        CommandFailed: the answer did not come to its end.
    """
    run_id = ""
    try:
        async with aclosing(_events(client, session_id, question)) as events:
            async for event in events:
                run_id = event.data["run_id"]
                reader.take(event)
                if event.name in ENDS:
                    _check_end(event)
                    return
    except asyncio.CancelledError:
        if run_id:
            await _cancel(client, run_id)
        raise


async def _cancel(client: Client, run_id: str) -> None:
    # Nobody reads on: without this the model would be paid to finish, and the session be busy until then.
    with suppress(CommandFailed, TimeoutError):
        async with asyncio.timeout(CANCEL_TIMEOUT_S):
            await client.post(f"/v1/chat/runs/{segment(run_id)}/cancel")


async def _events(client: Client, session_id: str, question: JsonObject) -> AsyncGenerator[Event, None]:
    """Yield the events of a new run; a cut stream is resumed from the run."""
    path = f"/v1/chat/sessions/{segment(session_id)}/messages"
    run_id, last_id = "", None
    try:
        async with client.open("POST", path, body=question, headers=HEADERS, timeout=STREAM_TIMEOUT) as response:
            run_id = response.headers.get("X-Run-Id", "")
            async for event in read_events(response):
                last_id = event.id
                yield event
    except Unreachable:
        if not run_id:
            raise
    async with aclosing(follow(client, f"/v1/chat/runs/{run_id}/events", last_id=last_id)) as events:
        async for event in events:
            yield event


def _check_end(event: Event) -> None:
    match event.name:
        case "run.failed":
            raise CommandFailed(f"the answer failed: {event.data['message']} ({event.data['code']})")
        case "run.cancelled":
            raise CommandFailed("the answer was cancelled")
        case "run.interrupted":
            raise CommandFailed("the server stopped while it answered; ask again")
        case _:
            pass


class JsonLines:
    """Prints each event as one line of JSON."""

    def take(self, event: Event) -> None:
        """Print the event."""
        print_json({"event": event.name, "id": event.id, "data": event.data})


class Typist:
    """Prints the text as it comes, and the citations once it is there."""

    def __init__(self) -> None:
        self._length = 0
        self.citations: list[str] = []

    def take(self, event: Event) -> None:
        """Print what the event brings."""
        match event.name:
            case "message.delta":
                self._type(event.data["text"], offset=event.data["offset"])
            case "message.citation":
                self._cite(describe_citation(event.data))
            case name if name in ENDS:
                self._finish()
            case _:
                pass

    def _type(self, text: str, *, offset: int) -> None:
        # A resumed stream may bring text again that has been shown.
        fresh = text[max(self._length - offset, 0) :]
        self._length += len(fresh)
        print_text(fresh)

    def _cite(self, citation: str) -> None:
        if citation not in self.citations:
            self.citations.append(citation)

    def _finish(self) -> None:
        if self._length:
            print_line()
        for citation in self.citations:
            print_line(citation)


def describe_citation(citation: dict[str, Any]) -> str:
    """Return a citation as one line: `[1] handbook.pdf, page 3: “quote”`; one that was not verified says so."""
    mark = "" if citation["verified"] else " (unverified)"
    if not citation.get("document_id"):
        return f"[{citation['n']}] names no source{mark}"
    return f"[{citation['n']}] {show_place(citation)}: “{shorten(citation['quote'] or '', QUOTE_CHARS)}”{mark}"

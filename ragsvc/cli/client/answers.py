"""Streams an answer, across reconnections, and prints its text and citations, or its events as JSON."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Protocol

from ragsvc.cli.client.http import STREAM_TIMEOUT, segment
from ragsvc.cli.client.sse import HEADERS, Event, follow, read_events
from ragsvc.cli.exits import CommandFailed, Unreachable
from ragsvc.cli.output import print_json, print_line, print_text, shorten, show_source

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ragsvc.cli.client.http import Client, JsonObject

ENDS = frozenset({"message.completed", "run.failed", "run.cancelled", "run.interrupted"})
# What a reader is told about a quote, by the verdict on whether it supports the answer.
MARKS = {"supported": "", "contradicted": " (contradicts the answer)", "unknown": " (not checked)"}
QUOTE_CHARS = 300
CANCEL_TIMEOUT_S = 2.0


class Reader(Protocol):
    """Receives the events of an answer."""

    def take(self, event: Event) -> None:
        """Handle one event."""


async def ask(client: Client, session_id: str, question: JsonObject, *, reader: Reader) -> None:
    """Post a message and pass the events of its answer to the reader. Cancelling the call cancels the run.

    Raises:
        CommandFailed: the answer failed or was interrupted.
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
    # Otherwise the model would be paid to finish an answer that nobody reads, and the session would stay busy.
    with suppress(CommandFailed, TimeoutError):
        async with asyncio.timeout(CANCEL_TIMEOUT_S):
            await client.post(f"/v1/chat/runs/{segment(run_id)}/cancel")


async def _events(client: Client, session_id: str, question: JsonObject) -> AsyncGenerator[Event, None]:
    """Yield the events of a new run; a dropped stream is resumed from the run's stored events."""
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
            raise CommandFailed("the server stopped during the answer; ask again")
        case _:
            pass


class JsonLines:
    """Prints each event as one line of JSON."""

    def take(self, event: Event) -> None:
        """Print the event."""
        print_json({"event": event.name, "id": event.id, "data": event.data})


class Typist:
    """Prints the text as it arrives, then the citations."""

    def __init__(self) -> None:
        self._length = 0
        self.citations: list[str] = []

    def take(self, event: Event) -> None:
        """Print the event's text or citation."""
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
        # A resumed stream may repeat text that was already printed.
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
    """Return a citation as one line: `[1] handbook.pdf, page 3: “quote”`, marked unless the quote supports it."""
    if not citation.get("document_id"):
        return f"[{citation['n']}] refers to no source"
    mark = MARKS[citation["support"]["verdict"]] if citation["verified"] else " (the quote is not in the source)"
    return f"[{citation['n']}] {show_source(citation)}: “{shorten(citation['quote'] or '', QUOTE_CHARS)}”{mark}"

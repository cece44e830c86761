"""The output for an answer's events."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ragsvc.cli.client.answers import Typist, _check_end, ask, describe_citation
from ragsvc.cli.client.http import open_client
from ragsvc.cli.client.sse import Event
from ragsvc.cli.client.target import Target
from ragsvc.cli.exits import CommandFailed

PDF = {"document_id": "doc_1", "filename": "handbook.pdf", "page_first": 3, "heading_path": ["Weather limits"]}
NOTES = {"document_id": "doc_2", "filename": "notes.md", "page_first": None, "heading_path": ["Setup", "Linux"]}


def citation(n: int, span: dict[str, Any], *, verdict: str = "supported", verified: bool = True) -> dict[str, Any]:
    return {"n": n, **span, "quote": "Close the\ndome.", "support": {"verdict": verdict}, "verified": verified}


def delta(text: str, offset: int) -> Event:
    return Event("message.delta", {"text": text, "offset": offset}, None)


def test_a_citation_is_one_line_with_its_page_or_heading() -> None:
    assert describe_citation(citation(1, PDF)) == "[1] handbook.pdf, page 3: “Close the dome.”"
    assert describe_citation(citation(2, NOTES)) == "[2] notes.md, Setup > Linux: “Close the dome.”"


def test_a_citation_is_marked_unless_its_quote_supports_the_answer() -> None:
    assert describe_citation(citation(1, PDF)).endswith("“Close the dome.”")
    assert describe_citation(citation(1, PDF, verdict="unknown")).endswith("“Close the dome.” (not checked)")
    contradicted = describe_citation(citation(1, PDF, verdict="contradicted"))
    assert contradicted.endswith("“Close the dome.” (contradicts the answer)")
    false = describe_citation(citation(1, PDF, verified=False))
    assert false.endswith("“Close the dome.” (the quote is not in the source)")
    assert describe_citation({"n": 9, "document_id": None, "verified": False}) == "[9] refers to no source"


def test_text_that_a_resumed_stream_repeats_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    typist = Typist()
    for event in (delta("Close ", 0), delta("the ", 6), delta("Close the dome", 0), delta("dome", 10), delta(".", 14)):
        typist.take(event)
    typist.take(Event("message.citation", citation(1, PDF), None))
    typist.take(Event("message.citation", citation(1, PDF), None))
    typist.take(Event("message.completed", {}, None))
    assert capsys.readouterr().out == "Close the dome.\n[1] handbook.pdf, page 3: “Close the dome.”\n"


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (Event("run.failed", {"code": "chat_unavailable", "message": "away"}, None), r"away \(chat_unavailable\)"),
        (Event("run.cancelled", {}, None), "cancelled"),
        (Event("run.interrupted", {"text_length": 3, "retryable": True}, None), "ask again"),
    ],
)
def test_an_incomplete_answer_fails(event: Event, message: str) -> None:
    with pytest.raises(CommandFailed, match=message):
        _check_end(event)


async def test_a_reader_that_stops_cancels_the_run() -> None:
    cancelled = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Run-Id": "run_1"})
        await response.prepare(request)
        await response.write(b'id: 1\nevent: run.started\ndata: {"run_id":"run_1","message_id":"msg_1"}\n\n')
        await cancelled.wait()
        return response

    async def cancel(_request: web.Request) -> web.Response:
        cancelled.set()
        return web.json_response({})

    seen = asyncio.Event()

    class Watcher:
        def take(self, event: Event) -> None:
            assert event.name == "run.started"
            seen.set()

    app = web.Application()
    app.router.add_post("/v1/chat/sessions/chat_1/messages", answer)
    app.router.add_post("/v1/chat/runs/run_1/cancel", cancel)
    async with TestServer(app) as server, open_client(Target(str(server.make_url("")), "a key", None)) as client:
        asking = asyncio.create_task(ask(client, "chat_1", {"content": "?"}, reader=Watcher()))
        async with asyncio.timeout(10):
            await seen.wait()
            asking.cancel()
            await cancelled.wait()
        with pytest.raises(asyncio.CancelledError):
            await asking

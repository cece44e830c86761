"""How a run is answered: as a stream of its events, or as one message once it has ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from ragsvc.answering.runs import Runs, follow_run, wait_for_answer
from ragsvc.http.chat_rendering import render_event, render_message
from ragsvc.http.ids import format_id
from ragsvc.http.rendering import json_response
from ragsvc.http.sse import StreamEnd

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from uuid import UUID

    from ragsvc.answering.requests import BegunRun
    from ragsvc.http.chat_views import AnswerView
    from ragsvc.http.sse import Event, StreamSlot

RUNS = web.AppKey("runs", Runs)
RUN_ID_HEADER = "X-Run-Id"
# How soon it is noticed that nobody waits for an answer any more.
LOOK_S = 1.0


def runs_of(request: web.Request) -> Runs:
    """Return the process's runs."""
    return request.app[RUNS]


async def stream_events(
    request: web.Request, slot: StreamSlot, *, workspace_id: UUID, run_id: UUID, after: int = 0
) -> web.StreamResponse:
    """Send a run's events after number `after`, up to its end."""
    events = _render_events(runs_of(request), workspace_id, run_id, after=after)
    return await slot.send(request, events, headers={RUN_ID_HEADER: format_id("run", run_id)})


async def stream_run(request: web.Request, slot: StreamSlot, run: BegunRun) -> web.StreamResponse:
    """Send the events of a run that was just begun; its client's leaving cancels it where that is set so."""
    response = await stream_events(request, slot, workspace_id=run.session.workspace_id, run_id=run.id)
    if slot.end is StreamEnd.CLIENT_LEFT:
        _leave(request, run)
    return response


async def answer_run(request: web.Request, run: BegunRun) -> web.Response:
    """Answer with the whole message once the run has ended, however it ended."""
    waiting = asyncio.create_task(
        wait_for_answer(runs_of(request), run.session.workspace_id, run.id, message_id=run.answer_id)
    )
    try:
        while not waiting.done():
            await asyncio.wait({waiting}, timeout=LOOK_S)
            if request.transport is None or request.transport.is_closing():
                _leave(request, run)
        message = waiting.result()
    finally:
        waiting.cancel()
    run_id = format_id("run", run.id)
    view: AnswerView = {"run_id": run_id, "message": render_message(message)}
    return json_response(view, headers={RUN_ID_HEADER: run_id})


def _leave(request: web.Request, run: BegunRun) -> None:
    runs = runs_of(request)
    if runs.resources.settings.chat_on_disconnect == "cancel":
        runs.owner.cancel(run.id)


async def _render_events(runs: Runs, workspace_id: UUID, run_id: UUID, *, after: int) -> AsyncGenerator[Event, None]:
    async for event in follow_run(runs, workspace_id, run_id, after=after):
        yield render_event(run_id, event)

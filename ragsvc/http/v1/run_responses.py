"""Responds with a run: as a stream of its events, or as one message once it has ended."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from aiohttp import web
from typing_extensions import TypedDict

from ragsvc.db import chat_runs
from ragsvc.domain.chat.conversations import RunStatus
from ragsvc.domain.ids import format_id
from ragsvc.errors.requests import AnswerFailed
from ragsvc.http.auth import caller_of
from ragsvc.http.contract.bodies import parse_json
from ragsvc.http.contract.ids import ShownRunId
from ragsvc.http.contract.operations import Media
from ragsvc.http.contract.rendering import json_response
from ragsvc.http.key_checks import KEY_CHECKS
from ragsvc.http.sse import StreamEnd, reserve_stream
from ragsvc.http.state import resources_of
from ragsvc.http.v1.chat_events import RUN_EVENTS, RunErrorView, render_event, render_run_error
from ragsvc.http.v1.chat_message_views import MessageView, render_message
from ragsvc.runs.runs import Runs, follow_run_in_batches, wait_for_answer
from ragsvc.tasks import abandon

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from uuid import UUID

    from ragsvc.http.sse import Event, StreamSlot
    from ragsvc.runs.requests import BegunRun

RUNS = web.AppKey("runs", Runs)
RUN_ID_HEADER = "X-Run-Id"
# How often a waiting request checks whether its client has disconnected.
DISCONNECT_CHECK_S = 1.0


class AnswerView(TypedDict):
    """A complete answer; `error` is always null, since a failed answer is a problem (`answer_failed`)."""

    run_id: ShownRunId
    message: MessageView
    error: None


ANSWER = Media(
    "text/event-stream",
    "The run's events; with `stream: false` the answer as JSON.",
    json=AnswerView,
    events=RUN_EVENTS,
)


def runs_of(request: web.Request) -> Runs:
    """Return the process's runs."""
    return request.app[RUNS]


async def stream_events(
    request: web.Request, slot: StreamSlot, *, workspace_id: UUID, run_id: UUID, after: int = 0
) -> web.StreamResponse:
    """Stream a run's events after number `after`, up to its end."""
    events = _render_events(runs_of(request), workspace_id, run_id, after=after)
    return await slot.send(request, events, headers={RUN_ID_HEADER: format_id("run", run_id)})


async def respond_with_run(
    request: web.Request, slot: StreamSlot, run: BegunRun, *, stream: bool
) -> web.StreamResponse:
    """Respond with the events of a run that has just started, or with the whole message once the run has ended.

    A client that disconnects cancels the run if CHAT_ON_DISCONNECT is `cancel`.
    """
    workspace_id = run.session.workspace_id
    if stream:
        return await _stream(request, slot, workspace_id=workspace_id, run_id=run.id)
    return await _wait(request, workspace_id=workspace_id, run_id=run.id, message_id=run.answer_id)


async def respond_again(request: web.Request, run_id: UUID) -> web.StreamResponse | None:
    """Respond to a repeated question with the run that the first request started; None if there is no such run."""
    caller = caller_of(request)
    async with resources_of(request).pool.acquire() as conn:
        run = await chat_runs.select_run(conn, caller.workspace.id, run_id)
    if run is None:
        return None
    body = parse_json(await request.read() or b"{}")
    with reserve_stream(request, caller) as slot:
        if isinstance(body, dict) and body.get("stream") is False:
            return await _wait(request, workspace_id=run.workspace_id, run_id=run.id, message_id=run.message_id)
        return await _stream(request, slot, workspace_id=run.workspace_id, run_id=run.id)


async def _stream(request: web.Request, slot: StreamSlot, *, workspace_id: UUID, run_id: UUID) -> web.StreamResponse:
    response = await stream_events(request, slot, workspace_id=workspace_id, run_id=run_id)
    if slot.end is StreamEnd.CLIENT_LEFT:
        _handle_disconnect(request, run_id)
    return response


async def _wait(request: web.Request, *, workspace_id: UUID, run_id: UUID, message_id: UUID) -> web.Response:
    waiting = asyncio.create_task(wait_for_answer(runs_of(request), workspace_id, run_id, message_id=message_id))
    try:
        while not waiting.done():
            await asyncio.wait({waiting}, timeout=DISCONNECT_CHECK_S)
            if request.transport is None or request.transport.is_closing():
                _handle_disconnect(request, run_id)
        message = waiting.result()
        await request.app[KEY_CHECKS].require_valid()
    finally:
        abandon(waiting)
    public_id = format_id("run", run_id)
    if message.status == RunStatus.FAILED:
        error = await _load_error(request, run_id)
        raise AnswerFailed(error and error["message"], run_id=public_id, error=dict(error) if error else None)
    view: AnswerView = {"run_id": public_id, "message": render_message(message), "error": None}
    return json_response(view, headers={RUN_ID_HEADER: public_id})


async def _load_error(request: web.Request, run_id: UUID) -> RunErrorView | None:
    async with resources_of(request).pool.acquire() as conn:
        run = await chat_runs.select_run(conn, caller_of(request).workspace.id, run_id)
    return render_run_error(run) if run else None


def _handle_disconnect(request: web.Request, run_id: UUID) -> None:
    runs = runs_of(request)
    if runs.resources.settings.answering.chat_on_disconnect == "cancel":
        runs.owner.cancel(run_id)


async def _render_events(
    runs: Runs, workspace_id: UUID, run_id: UUID, *, after: int
) -> AsyncGenerator[list[Event], None]:
    public_id = format_id("run", run_id)
    async with aclosing(follow_run_in_batches(runs, workspace_id, run_id, after=after)) as batches:
        async for batch in batches:
            yield [render_event(public_id, event) for event in batch]

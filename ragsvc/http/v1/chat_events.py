"""The server-sent events of a run: the views of their data, and how they are rendered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from ragsvc.domain.ids import format_id
from ragsvc.http.contract.ids import ShownMessageId, ShownRunId
from ragsvc.http.sse import Event
from ragsvc.http.v1.chat_message_views import (
    CitationView,
    MessageView,
    SourceView,
    TokenUsageView,
    render_citation,
    render_message,
    render_source,
    render_token_usage,
)
from ragsvc.runs.events import (
    MessageCitation,
    MessageCompleted,
    MessageDelta,
    RetrievalCompleted,
    RunCancelled,
    RunEvent,
    RunFailed,
    RunInterrupted,
    RunStarted,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ragsvc.domain.chat.conversations import ChatRun
    from ragsvc.runs.events import EventBody


class RunErrorView(TypedDict):
    """Why a run failed."""

    code: str
    message: str
    retryable: bool


class RunEventData(TypedDict):
    """The data common to all events of a run."""

    run_id: ShownRunId


class RunStartedData(RunEventData):
    """The run has started; `message_id` is the id of the future answer."""

    message_id: ShownMessageId


class RetrievalCompletedData(RunEventData):
    """The sources that the answer will be based on."""

    sources: list[SourceView]


class MessageDeltaData(RunEventData):
    """A piece of the answer; `offset` is its position in the answer, in code points."""

    text: str
    offset: int


class MessageCitationData(RunEventData, CitationView):
    """A citation in the answer so far."""


class MessageCompletedData(RunEventData):
    """The answer is complete."""

    message: MessageView
    usage: TokenUsageView | None
    finish_reason: str


class RunFailedData(RunEventData, RunErrorView):
    """The run failed; the text written so far is stored."""


class RunCancelledData(RunEventData):
    """A client cancelled the run."""


class RunInterruptedData(RunEventData):
    """The run's process stopped; `text_length` code points of the answer are stored."""

    text_length: int
    retryable: bool


RUN_EVENTS: dict[str, type] = {
    RunStarted.name: RunStartedData,
    RetrievalCompleted.name: RetrievalCompletedData,
    MessageDelta.name: MessageDeltaData,
    MessageCitation.name: MessageCitationData,
    MessageCompleted.name: MessageCompletedData,
    RunFailed.name: RunFailedData,
    RunCancelled.name: RunCancelledData,
    RunInterrupted.name: RunInterruptedData,
}


def render_event(run_id: str, event: RunEvent) -> Event:
    """Return a run's event in the form in which it is streamed."""
    return Event(event.body.name, {"run_id": run_id, **_render_body(event.body)}, id=event.id)


def _render_body(body: EventBody) -> Mapping[str, object]:  # noqa: C901, PLR0911 - one branch per kind of event
    match body:
        case RunStarted(message_id):
            return {"message_id": format_id("msg", message_id)}
        case RetrievalCompleted(sources):
            return {"sources": [render_source(source) for source in sources]}
        case MessageDelta(text, offset):
            return {"text": text, "offset": offset}
        case MessageCitation(citation):
            return render_citation(citation)
        case MessageCompleted(message, finish_reason):
            usage = render_token_usage(message.usage)
            view = render_message(message)
            return {"message": view, "usage": usage, "finish_reason": finish_reason}
        case RunFailed(code, message, retryable):
            return {"code": code, "message": message, "retryable": retryable}
        case RunCancelled():
            return {}
        case RunInterrupted(text_length, retryable):
            return {"text_length": text_length, "retryable": retryable}


def render_run_error(run: ChatRun) -> RunErrorView | None:
    """Return why a run failed; None if it did not."""
    error = run.error
    return {"code": error.code, "message": error.message, "retryable": error.retryable} if error else None

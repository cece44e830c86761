"""What clients see of searches and chats: the shape of every answer and event."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from ragsvc.domain.chat import RunStatus  # noqa: TC001

# pydantic reads the annotations for the API's description
from ragsvc.http.contract.ids import (  # noqa: TC001
    ShownChunkId,
    ShownCollectionId,
    ShownDocumentId,
    ShownMessageId,
    ShownRunId,
    ShownSessionId,
    ShownTime,
)


class ScoresView(TypedDict):
    """What each index gave: the cosine, and a rank from 1 on for all the words, below for some; null for nothing."""

    dense: float | None
    lexical: float | None


class SearchHitView(TypedDict):
    """A chunk that was found; `score` orders the hits of one search and means nothing beyond it."""

    chunk_id: ShownChunkId
    document_id: ShownDocumentId
    filename: str
    version: int
    ordinal: int
    score: float
    scores: ScoresView
    text: str
    page_first: int | None
    page_last: int | None
    heading_path: list[str]
    char_start: int
    char_end: int
    attributes: dict[str, object]


class SearchView(TypedDict):
    """What was found, best first."""

    data: list[SearchHitView]


class SessionView(TypedDict):
    """A conversation; `collection_ids` is null where it searches the whole workspace."""

    id: ShownSessionId
    title: str | None
    collection_ids: list[ShownCollectionId] | None
    instructions: str | None
    model: str | None
    created_at: ShownTime
    updated_at: ShownTime


class SourceView(TypedDict):
    """A chunk that an answer was made from, under the number by which it is cited."""

    n: int
    chunk_id: ShownChunkId
    document_id: ShownDocumentId
    filename: str
    page_first: int | None
    heading_path: list[str]
    score: float


class CitationView(TypedDict):
    """A `[n]` at `message_offset`; the rest is the quote's place, null where `n` names no source."""

    n: int
    document_id: ShownDocumentId | None
    filename: str | None
    version: int | None
    page_first: int | None
    heading_path: list[str]
    char_start: int | None
    char_end: int | None
    quote: str | None
    support: float
    verified: bool
    message_offset: int


class TokenUsageView(TypedDict):
    """What an answer cost."""

    prompt_tokens: int
    completion_tokens: int


class MessageView(TypedDict):
    """A message; `[n]` stands in its content where it cites a source."""

    id: ShownMessageId
    session_id: ShownSessionId
    run_id: ShownRunId
    role: Literal["user", "assistant"]
    content: str
    citations: list[CitationView]
    sources: list[SourceView]
    status: Literal["streaming", "completed", "failed", "cancelled", "interrupted"]
    model: str | None
    usage: TokenUsageView | None
    created_at: ShownTime


class RunErrorView(TypedDict):
    """Why a run failed."""

    code: str
    message: str
    retryable: bool


class AnswerView(TypedDict):
    """An answer that was waited for; `error` says why its run failed, if it did."""

    run_id: ShownRunId
    message: MessageView
    error: RunErrorView | None


class RunView(TypedDict):
    """An answer in the making."""

    id: ShownRunId
    session_id: ShownSessionId
    message_id: ShownMessageId
    status: RunStatus
    last_event_id: int
    error: RunErrorView | None
    created_at: ShownTime
    finished_at: ShownTime | None


class RunEventData(TypedDict):
    """What every event of a run carries."""

    run_id: ShownRunId


class RunStartedData(RunEventData):
    """The run has begun; `message_id` will be the answer's."""

    message_id: ShownMessageId


class RetrievalCompletedData(RunEventData):
    """What the answer will be made from."""

    sources: list[SourceView]


class MessageDeltaData(RunEventData):
    """A piece of the answer; `offset` is where it belongs, in code points."""

    text: str
    offset: int


class MessageCitationData(RunEventData, CitationView):
    """A citation of the answer so far."""


class MessageCompletedData(RunEventData):
    """The answer is complete."""

    message: MessageView
    usage: TokenUsageView | None
    finish_reason: str


class RunFailedData(RunEventData, RunErrorView):
    """The run stopped on an error; the text so far is kept."""


class RunCancelledData(RunEventData):
    """Somebody cancelled the run."""


class RunInterruptedData(RunEventData):
    """The run's process stopped; `text_length` code points of the answer are kept."""

    text_length: int
    retryable: bool


RUN_EVENTS: dict[str, type] = {
    "run.started": RunStartedData,
    "retrieval.completed": RetrievalCompletedData,
    "message.delta": MessageDeltaData,
    "message.citation": MessageCitationData,
    "message.completed": MessageCompletedData,
    "run.failed": RunFailedData,
    "run.cancelled": RunCancelledData,
    "run.interrupted": RunInterruptedData,
}

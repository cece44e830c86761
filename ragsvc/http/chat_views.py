"""What clients see of searches and chats: the shape of every answer and event."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from ragsvc.models.chat import RunStatus  # noqa: TC001 - pydantic reads the annotations for the API's description


class ScoresView(TypedDict):
    """What each index gave: the cosine, and a rank from 1 on for all the words, below for some; null for nothing."""

    dense: float | None
    lexical: float | None


class SearchHitView(TypedDict):
    """A chunk that was found; `score` orders the hits of one search and means nothing beyond it."""

    chunk_id: str
    document_id: str
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

    id: str
    title: str | None
    collection_ids: list[str] | None
    instructions: str | None
    model: str | None
    created_at: str
    updated_at: str


class SourceView(TypedDict):
    """A chunk that an answer was made from, under the number by which it is cited."""

    n: int
    chunk_id: str
    document_id: str
    filename: str
    page_first: int | None
    heading_path: list[str]
    score: float


class CitationView(TypedDict):
    """A `[n]` at `message_offset`; the rest is the quote's place, null where `n` names no source."""

    n: int
    document_id: str | None
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


class DailyUsageView(TypedDict):
    """What answers by one model cost on one day (UTC); of `estimated_runs` the server told nothing, and we counted."""

    day: str
    model: str
    runs: int
    estimated_runs: int
    prompt_tokens: int
    completion_tokens: int


class UsageByDayView(TypedDict):
    """What answers cost, newest day first."""

    data: list[DailyUsageView]


class MessageView(TypedDict):
    """A message; `[n]` stands in its content where it cites a source."""

    id: str
    session_id: str
    run_id: str
    role: Literal["user", "assistant"]
    content: str
    citations: list[CitationView]
    sources: list[SourceView]
    status: Literal["streaming", "completed", "failed", "cancelled", "interrupted"]
    model: str | None
    usage: TokenUsageView | None
    created_at: str


class AnswerView(TypedDict):
    """An answer that was waited for."""

    run_id: str
    message: MessageView


class RunErrorView(TypedDict):
    """Why a run failed."""

    code: str
    message: str
    retryable: bool


class RunView(TypedDict):
    """An answer in the making."""

    id: str
    session_id: str
    message_id: str
    status: RunStatus
    last_event_id: int
    error: RunErrorView | None
    created_at: str
    finished_at: str | None

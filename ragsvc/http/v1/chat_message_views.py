"""Chat messages with their sources and citations, as responses and a run's events show them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

from typing_extensions import TypedDict

from ragsvc.domain.ids import format_id
from ragsvc.http.contract.ids import (
    ShownChunkId,
    ShownDocumentId,
    ShownMessageId,
    ShownRunId,
    ShownSessionId,
    ShownTime,
)
from ragsvc.http.contract.rendering import render_time

if TYPE_CHECKING:
    from ragsvc.domain.chat.citations import Citation, Source
    from ragsvc.domain.chat.conversations import ChatMessage, TokenUsage


class SourceView(TypedDict):
    """A chunk that an answer is based on, with the number under which it is cited."""

    n: int
    chunk_id: ShownChunkId
    document_id: ShownDocumentId
    filename: str
    page_first: int | None
    heading_path: list[str]
    score: float


class SupportView(TypedDict):
    """An estimate of whether the quote states what the answer says."""

    score: float
    verdict: Literal["supported", "contradicted", "unknown"]
    method: Literal["words", "model"]


class CitationView(TypedDict):
    """A `[n]` at `message_offset`; the other fields locate the quote and are null if `n` names no source."""

    n: int
    document_id: ShownDocumentId | None
    filename: str | None
    version: int | None
    page_first: int | None
    heading_path: list[str]
    char_start: int | None
    char_end: int | None
    quote: str | None
    support: SupportView
    verified: bool
    message_offset: int


class TokenUsageView(TypedDict):
    """The tokens that an answer used."""

    prompt_tokens: int
    completion_tokens: int


class MessageView(TypedDict):
    """A message; `[n]` in its content marks a citation of a source."""

    id: ShownMessageId
    session_id: ShownSessionId
    run_id: ShownRunId
    role: Literal["user", "assistant"]
    content: str
    citations: list[CitationView]
    sources: list[SourceView]
    status: Literal["streaming", "completed", "failed", "cancelled", "interrupted"]
    redacted: bool
    model: str | None
    usage: TokenUsageView | None
    finish_reason: str | None
    created_at: ShownTime


def render_message(message: ChatMessage) -> MessageView:
    """Return a message with its sources and citations."""
    view = {
        "id": format_id("msg", message.id),
        "session_id": format_id("chat", message.session_id),
        "run_id": format_id("run", message.run_id),
        "role": message.role,
        "content": message.content,
        "citations": [render_citation(citation) for citation in message.citations],
        "sources": [render_source(source) for source in message.sources],
        "status": message.status,
        "redacted": message.redacted,
        "model": message.model,
        "usage": render_token_usage(message.usage),
        "finish_reason": message.finish_reason,
        "created_at": render_time(message.created_at),
    }
    return cast("MessageView", view)


def render_source(source: Source) -> SourceView:
    """Return a source of an answer."""
    return {
        "n": source.n,
        "chunk_id": format_id("chunk", source.chunk_id),
        "document_id": format_id("doc", source.document_id),
        "filename": source.filename,
        "page_first": source.page_first,
        "heading_path": list(source.heading_path),
        "score": source.score,
    }


def render_citation(citation: Citation) -> CitationView:
    """Return a citation."""
    return {
        "n": citation.n,
        "document_id": format_id("doc", citation.document_id) if citation.document_id else None,
        "filename": citation.filename,
        "version": citation.version,
        "page_first": citation.page_first,
        "heading_path": list(citation.heading_path),
        "char_start": citation.char_start,
        "char_end": citation.char_end,
        "quote": citation.quote,
        "support": {
            "score": citation.support.score,
            "verdict": citation.support.verdict.value,
            "method": citation.support.method.value,
        },
        "verified": citation.verified,
        "message_offset": citation.message_offset,
    }


def render_token_usage(usage: TokenUsage | None) -> TokenUsageView | None:
    if usage is None:
        return None
    return {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}

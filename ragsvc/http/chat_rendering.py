"""Answers about searches and chats, made of our dataclasses, and a run's events under their public names."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ragsvc.domain.ids import format_id
from ragsvc.http.rendering import render_optional_time, render_time
from ragsvc.http.sse import Event
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

    from ragsvc.domain.chat import ChatMessage, ChatRun, ChatSession, Citation, Source, TokenUsage
    from ragsvc.domain.search import SearchHit
    from ragsvc.http.chat_views import (
        CitationView,
        MessageView,
        RunErrorView,
        RunView,
        SearchHitView,
        SessionView,
        SourceView,
        TokenUsageView,
    )


def render_hit(hit: SearchHit) -> SearchHitView:
    """Return a chunk that was found."""
    return {
        "chunk_id": format_id("chunk", hit.chunk_id),
        "document_id": format_id("doc", hit.document_id),
        "filename": hit.filename,
        "version": hit.version,
        "ordinal": hit.ordinal,
        "score": hit.score,
        "scores": {"dense": hit.dense_score, "lexical": hit.lexical_score},
        "text": hit.text,
        "page_first": hit.page_first,
        "page_last": hit.page_last,
        "heading_path": list(hit.heading_path),
        "char_start": hit.char_start,
        "char_end": hit.char_end,
        "attributes": hit.attributes,
    }


def render_session(session: ChatSession) -> SessionView:
    """Return a conversation."""
    ids = session.collection_ids
    return {
        "id": format_id("chat", session.id),
        "title": session.title,
        "collection_ids": None if ids is None else [format_id("col", collection_id) for collection_id in ids],
        "instructions": session.instructions,
        "model": session.model,
        "created_at": render_time(session.created_at),
        "updated_at": render_time(session.updated_at),
    }


def render_source(source: Source) -> SourceView:
    """Return what an answer was made from."""
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
        "support": citation.support,
        "verified": citation.verified,
        "message_offset": citation.message_offset,
    }


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
        "model": message.model,
        "usage": _render_usage(message.usage),
        "created_at": render_time(message.created_at),
    }
    return cast("MessageView", view)


def render_run(run: ChatRun) -> RunView:
    """Return an answer in the making."""
    return {
        "id": format_id("run", run.id),
        "session_id": format_id("chat", run.session_id),
        "message_id": format_id("msg", run.message_id),
        "status": run.status,
        "last_event_id": run.last_event_id,
        "error": render_run_error(run),
        "created_at": render_time(run.created_at),
        "finished_at": render_optional_time(run.finished_at),
    }


def render_run_error(run: ChatRun) -> RunErrorView | None:
    """Return why a run failed, None when it did not."""
    error = run.error
    return {"code": error.code, "message": error.message, "retryable": error.retryable} if error else None


def render_event(run_id: str, event: RunEvent) -> Event:
    """Return a run's event as it is streamed."""
    name, data = _name_event(event)
    return Event(name, {"run_id": run_id, **data}, id=event.id)


def _name_event(event: RunEvent) -> tuple[str, Mapping[str, object]]:  # noqa: C901, PLR0911 - one for each kind of event
    match event.body:
        case RunStarted(message_id):
            return "run.started", {"message_id": format_id("msg", message_id)}
        case RetrievalCompleted(sources):
            return "retrieval.completed", {"sources": [render_source(source) for source in sources]}
        case MessageDelta(text, offset):
            return "message.delta", {"text": text, "offset": offset}
        case MessageCitation(citation):
            return "message.citation", render_citation(citation)
        case MessageCompleted(message, finish_reason):
            usage = _render_usage(message.usage)
            view = render_message(message)
            return "message.completed", {"message": view, "usage": usage, "finish_reason": finish_reason}
        case RunFailed(code, message, retryable):
            return "run.failed", {"code": code, "message": message, "retryable": retryable}
        case RunCancelled():
            return "run.cancelled", {}
        case RunInterrupted(text_length, retryable):
            return "run.interrupted", {"text_length": text_length, "retryable": retryable}


def _render_usage(usage: TokenUsage | None) -> TokenUsageView | None:
    if usage is None:
        return None
    return {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}

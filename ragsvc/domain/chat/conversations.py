"""Chat sessions, their messages and their runs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from ragsvc.domain.chat.citations import Citation, Source
    from ragsvc.domain.documents import FailureInfo


class RunStatus(StrEnum):
    """Status of a chat run; all but `running` are final."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class ChatSession:
    """A conversation; `no_answer_text` is its abstention, None for the one in each question's language."""

    workspace_id: UUID
    id: UUID
    title: str | None
    instructions: str | None
    model: str | None
    collection_ids: tuple[UUID, ...] | None
    no_answer_text: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens used by an answer, as reported by the model server, or estimated by counting them locally."""

    prompt_tokens: int
    completion_tokens: int
    is_estimated: bool = False

    def __add__(self, other: TokenUsage) -> TokenUsage:
        """Return the sum of both."""
        return TokenUsage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            is_estimated=self.is_estimated or other.is_estimated,
        )


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """A message of a session; `[n]` in its content cites source n.

    `redacted` means that words of deleted documents were removed.
    """

    workspace_id: UUID
    id: UUID
    session_id: UUID
    run_id: UUID
    role: str
    status: str
    content: str
    sources: tuple[Source, ...]
    citations: tuple[Citation, ...]
    model: str | None
    usage: TokenUsage | None
    created_at: datetime
    finish_reason: str | None = None
    redacted: bool = False


@dataclass(frozen=True, slots=True)
class ChatRun:
    """The generation of one answer.

    `marks` has one entry per event between the sources and the end: the length of a delta in code points, 0 for a
    citation. All events can be rebuilt from the marks and the message.
    """

    workspace_id: UUID
    id: UUID
    session_id: UUID
    user_message_id: UUID
    message_id: UUID
    status: RunStatus
    request: dict[str, object]
    last_event_id: int
    marks: tuple[int, ...]
    finish_reason: str | None
    error: FailureInfo | None
    cancel_requested: bool
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class RunProgress:
    """The state that a run's owner saves; `sources` and `citations` are None if unchanged since the last save."""

    workspace_id: UUID
    run_id: UUID
    last_event_id: int
    marks: tuple[int, ...]
    content: str
    sources: tuple[Source, ...] | None = None
    citations: tuple[Citation, ...] | None = None
    status: RunStatus = RunStatus.RUNNING
    model: str | None = None
    usage: TokenUsage | None = None
    finish_reason: str | None = None
    error: FailureInfo | None = None

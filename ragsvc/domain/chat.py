"""Chat sessions, their messages and their runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

if TYPE_CHECKING:
    from datetime import datetime

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
class Source:
    """A chunk given to the model, with the number by which the answer can cite it."""

    n: int
    chunk_id: UUID
    document_id: UUID
    filename: str
    page_first: int | None
    heading_path: tuple[str, ...]
    score: float

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """Return the instance for the stored JSON object."""
        return cls(
            **{
                **stored,
                "chunk_id": UUID(stored["chunk_id"]),
                "document_id": UUID(stored["document_id"]),
                "heading_path": tuple(stored["heading_path"]),
            }
        )

    def redacted(self) -> Self:
        """Return a copy without text of the document."""
        return replace(self, filename="", heading_path=())


class Verdict(StrEnum):
    """Whether a quote states what the answer says."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    # It could not be told, for example because the language is not calibrated.
    UNKNOWN = "unknown"


class SupportMethod(StrEnum):
    """How a verdict was reached: by comparing words, or by asking the chat model."""

    WORDS = "words"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class Support:
    """An estimate of whether a quote supports a claim; `score` (0 to 1) is the share of the claim's words in it."""

    score: float = 0.0
    verdict: Verdict = Verdict.UNKNOWN
    method: SupportMethod = SupportMethod.WORDS

    @classmethod
    def from_json(cls, stored: dict[str, Any] | float) -> Self:
        """Return the instance for the stored JSON; versions before 0.2 stored the score alone."""
        if not isinstance(stored, dict):
            return cls(float(stored))
        return cls(stored["score"], Verdict(stored["verdict"]), SupportMethod(stored["method"]))


NO_SUPPORT = Support()


@dataclass(frozen=True, slots=True)
class Citation:
    """A marker `[n]` in an answer, at code point `message_offset` of the message.

    `char_start` and `char_end` are the quote's span in the document. A citation whose number has no source has no
    document and no span. `verified` means that the quote stands at its span in that version, character by character;
    `support` estimates whether it states what the answer says.
    """

    n: int
    message_offset: int
    document_id: UUID | None = None
    filename: str | None = None
    version: int | None = None
    page_first: int | None = None
    heading_path: tuple[str, ...] = ()
    char_start: int | None = None
    char_end: int | None = None
    quote: str | None = None
    support: Support = NO_SUPPORT
    verified: bool = False

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """Return the instance for the stored JSON object."""
        document_id = stored["document_id"]
        return cls(
            **{
                **stored,
                "support": Support.from_json(stored["support"]),
                "document_id": UUID(document_id) if document_id else None,
                "heading_path": tuple(stored["heading_path"]),
            }
        )

    def redacted(self) -> Self:
        """Return a copy without text of the document."""
        return replace(self, filename="", heading_path=(), quote="", verified=False, support=NO_SUPPORT)

    @property
    def is_redacted(self) -> bool:
        """Whether the text of the document was removed."""
        return self.filename == ""


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

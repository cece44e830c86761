"""What the service speaks of: frozen dataclasses and enums, without any I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """Return a new UUIDv7: ids order by the time they were made."""
    return uuid7()


class Scope(StrEnum):
    """What a workspace key may do."""

    READ = "read"
    WRITE = "write"
    CHAT = "chat"
    UPLOAD = "upload"


class Queue(StrEnum):
    """The two queues; each has its own workers and dead letters."""

    INGESTION = "ingestion"
    DELETION = "deletion"


class JobStatus(StrEnum):
    """Where a job is in its life (the picture is in jobs/lifecycle.py)."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    DEAD = "dead"
    DISCARDED = "discarded"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"


class SubjectKind(StrEnum):
    """What a job or a deletion is about."""

    DOCUMENT = "document"
    COLLECTION = "collection"
    WORKSPACE = "workspace"


class DocumentStatus(StrEnum):
    """A document's status as clients see it."""

    QUEUED = "queued"
    PROCESSING = "processing"
    READY = "ready"
    FAILED = "failed"
    DELETING = "deleting"


class Stage(StrEnum):
    """The stages of an ingestion, in their order."""

    DOWNLOADING = "downloading"
    PARSING = "parsing"
    CHUNKING = "chunking"
    EMBEDDING = "embedding"
    FINALIZING = "finalizing"


class DeletionStatus(StrEnum):
    """Where a deletion is."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


class RunStatus(StrEnum):
    """Where a chat run is; all but `running` are ends."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


class SearchMode(StrEnum):
    """Which index answers a search."""

    HYBRID = "hybrid"
    DENSE = "dense"
    LEXICAL = "lexical"


@dataclass(frozen=True, slots=True)
class Workspace:
    """A tenant."""

    id: UUID
    name: str
    bucket: str
    quota_bytes: int | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Usage:
    """What a workspace holds."""

    documents: int
    chunks: int
    storage_bytes: int


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A workspace's key, without the secret."""

    workspace_id: UUID
    id: UUID
    name: str
    key_prefix: str
    scopes: tuple[Scope, ...]
    expires_at: datetime | None
    revoked_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Chunking:
    """How text is cut: tokens per chunk, and tokens that neighbours share."""

    max_tokens: int
    overlap_tokens: int


@dataclass(frozen=True, slots=True)
class Collection:
    """Documents that are searched together; `chunking` is None where the service's default holds."""

    workspace_id: UUID
    id: UUID
    name: str
    is_default: bool
    chunking: Chunking | None
    metadata: dict[str, object]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class EmbeddingSpace:
    """What vectors may be compared in; `table` holds its vectors."""

    id: int
    model: str
    dimensions: int
    revision: int

    @property
    def table(self) -> str:
        """The name of its chunk table."""
        return f"chunk_vec_{self.id}"


@dataclass(frozen=True, slots=True)
class File:
    """A stored object."""

    workspace_id: UUID
    id: UUID
    object_key: str
    filename: str
    mime_type: str
    size_bytes: int
    sha256: bytes
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart upload in the making, or what became of it."""

    workspace_id: UUID
    id: UUID
    bucket: str
    object_key: str
    s3_upload_id: str | None
    filename: str
    mime_type: str


@dataclass(frozen=True, slots=True)
class FailureInfo:
    """Why a document is not ready; `next_attempt_at` stands while it waits for another try."""

    code: str
    message: str
    retryable: bool
    next_attempt_at: datetime | None = None

    def to_json(self) -> dict[str, object]:
        """Return the form in which it is stored and shown."""
        next_attempt_at = self.next_attempt_at.isoformat() if self.next_attempt_at else None
        return {
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
            "next_attempt_at": next_attempt_at,
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """Return what `to_json` stored."""
        moment = stored.get("next_attempt_at")
        return cls(
            code=stored["code"],
            message=stored["message"],
            retryable=stored["retryable"],
            next_attempt_at=datetime.fromisoformat(moment) if moment else None,
        )


@dataclass(frozen=True, slots=True)
class Document:
    """A file in a collection."""

    workspace_id: UUID
    id: UUID
    collection_id: UUID
    file_id: UUID
    filename: str
    mime_type: str
    size_bytes: int
    sha256: bytes
    status: DocumentStatus
    stage: Stage | None
    progress: float
    version: int
    active_build: UUID | None
    chunk_count: int
    token_count: int
    attributes: dict[str, object]
    error: FailureInfo | None
    deletion_id: UUID | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class PageSpan:
    """The part of a text that stands on one page: code points `[char_start, char_end)`."""

    page: int
    char_start: int
    char_end: int


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading: level 1 to 6, and the code point where its section begins."""

    level: int
    title: str
    char_start: int


@dataclass(frozen=True, slots=True)
class ParsedText:
    """A document's canonical text with its anchors; every offset counts code points of `text`.

    `media_type` is what the content turned out to be, whatever the upload said.
    """

    text: str
    pages: tuple[PageSpan, ...] = ()
    headings: tuple[Heading, ...] = ()
    media_type: str = "text/plain"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a canonical text: `canonical[char_start:char_end] == text`, always.

    `content_hash` is the sha256 of the text; `embedding_input_hash` is the embedding cache's key.
    """

    ordinal: int
    text: str
    content_hash: bytes
    embedding_input_hash: bytes
    char_start: int
    char_end: int
    page_spans: tuple[PageSpan, ...]
    heading_path: tuple[str, ...]
    token_count: int

    @property
    def page_first(self) -> int | None:
        """The page where the chunk begins, counted from 1; None where the format has no pages."""
        return self.page_spans[0].page if self.page_spans else None

    @property
    def page_last(self) -> int | None:
        """The page where the chunk ends."""
        return self.page_spans[-1].page if self.page_spans else None


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk as it is listed."""

    id: UUID
    ordinal: int
    text: str
    content_hash: bytes
    char_start: int
    char_end: int
    page_first: int | None
    page_last: int | None
    heading_path: tuple[str, ...]
    token_count: int


@dataclass(frozen=True, slots=True)
class TextSlice:
    """Code points `[start, end)` of a version's canonical text, which has `length` of them."""

    version: int
    start: int
    end: int
    length: int
    text: str


@dataclass(frozen=True, slots=True)
class Job:
    """A row of the queue's truth."""

    workspace_id: UUID
    id: UUID
    queue: Queue
    kind: str
    subject_kind: SubjectKind
    subject_id: UUID
    payload: dict[str, object]
    status: JobStatus
    stage: str | None
    progress: float
    attempts: int
    max_attempts: int
    rescues: int
    run_at: datetime
    generation: int
    lease_owner: str | None
    lease_token: UUID | None
    lease_until: datetime | None
    cancel_requested: bool
    error: dict[str, object] | None
    first_failed_at: datetime | None
    last_failed_at: datetime | None
    replay_count: int
    trace_id: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """A queue as operators see it."""

    queue: Queue
    queued: int
    ready: int
    running: int
    dead: int
    oldest_ready_age_s: float | None
    paused: bool
    reason: str | None


@dataclass(frozen=True, slots=True)
class StoreReceipt:
    """What a deletion did in one store; `remaining` was counted by looking again."""

    store: str
    removed: int
    redacted: int
    remaining: int
    retained_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Deletion:
    """A deletion and, once it is completed, its receipt."""

    workspace_id: UUID
    id: UUID
    subject_kind: SubjectKind
    subject_id: UUID
    purge_file: bool
    status: DeletionStatus
    stores: tuple[StoreReceipt, ...]
    error: FailureInfo | None
    requested_at: datetime
    completed_at: datetime | None
    verified_at: datetime | None


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A chunk that a search found; `score` orders, `scores` holds what each index gave."""

    chunk_id: UUID
    document_id: UUID
    build_id: UUID
    filename: str
    version: int
    ordinal: int
    score: float
    dense_score: float | None
    lexical_score: float | None
    text: str
    page_first: int | None
    page_last: int | None
    page_spans: tuple[PageSpan, ...]
    heading_path: tuple[str, ...]
    char_start: int
    char_end: int
    token_count: int
    attributes: dict[str, object]


@dataclass(frozen=True, slots=True)
class ChatSession:
    """A conversation."""

    workspace_id: UUID
    id: UUID
    title: str | None
    instructions: str | None
    model: str | None
    collection_ids: tuple[UUID, ...] | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Source:
    """A chunk that an answer was made from, under the number by which the answer may cite it."""

    n: int
    chunk_id: UUID
    document_id: UUID
    filename: str
    page_first: int | None
    heading_path: tuple[str, ...]
    score: float

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """Return what was stored as JSON, field by field."""
        return cls(
            **{
                **stored,
                "chunk_id": UUID(stored["chunk_id"]),
                "document_id": UUID(stored["document_id"]),
                "heading_path": tuple(stored["heading_path"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Citation:
    """A `[n]` of an answer; `message_offset` is where it stands, `char_start` and `char_end` are the quote's.

    A number that names no source has no document and no place. `support` (0 to 1) tells how well the quote carries
    the sentence that cites it.
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
    support: float = 0.0
    verified: bool = False

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """Return what was stored as JSON, field by field."""
        document_id = stored["document_id"]
        return cls(
            **{
                **stored,
                "document_id": UUID(document_id) if document_id else None,
                "heading_path": tuple(stored["heading_path"]),
            }
        )


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """What an answer cost, as the model's server counted it."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """A message of a session; `[n]` stands in its content where it cites a source."""

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


@dataclass(frozen=True, slots=True)
class ChatRun:
    """One answer in the making.

    `marks` are the events between the sources and the end, in their order: a delta's length in code points, 0 for a
    citation. With the message they tell every event again.
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
    """What a run's owner saves: everything so far. `sources` and `citations` are None where they did not change."""

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

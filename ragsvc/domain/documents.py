"""Files, documents, failures, warnings and embedding spaces."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from uuid import UUID


class DocumentStatus(StrEnum):
    """Status of a document, as shown to clients."""

    QUEUED = "queued"
    PROCESSING = "processing"
    READY = "ready"
    FAILED = "failed"
    DELETING = "deleting"


class Stage(StrEnum):
    """The stages of ingestion, in order."""

    DOWNLOADING = "downloading"
    PARSING = "parsing"
    CHUNKING = "chunking"
    EMBEDDING = "embedding"
    FINALIZING = "finalizing"


@dataclass(frozen=True, slots=True)
class File:
    """A stored object; `sha256` is None for a multipart upload without a declared hash until a worker has read it."""

    workspace_id: UUID
    id: UUID
    object_key: str
    filename: str
    mime_type: str
    size_bytes: int
    sha256: bytes | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class FailureInfo:
    """Why an ingestion, run or other operation failed; `next_attempt_at` is set while a retry is scheduled."""

    code: str
    message: str
    retryable: bool
    next_attempt_at: datetime | None = None

    def to_json(self) -> dict[str, object]:
        """Return the JSON object that is stored and shown to clients."""
        next_attempt_at = self.next_attempt_at.isoformat() if self.next_attempt_at else None
        return {
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
            "next_attempt_at": next_attempt_at,
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """Return the instance that `to_json` stored."""
        moment = stored.get("next_attempt_at")
        return cls(
            code=stored["code"],
            message=stored["message"],
            retryable=stored["retryable"],
            next_attempt_at=datetime.fromisoformat(moment) if moment else None,
        )


class WarningCode(StrEnum):
    """Kinds of defect in a ready document."""

    PAGES_WITHOUT_TEXT = "pages_without_text"
    PAGE_LABELS_DIFFER = "page_labels_differ"
    DAMAGED_CHARACTERS = "damaged_characters"


@dataclass(frozen=True, slots=True)
class DocumentWarning:
    """A defect found during ingestion; `pages` are the affected physical page numbers."""

    code: WarningCode
    message: str
    pages: tuple[int, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return the JSON object that is stored."""
        return {"code": self.code, "message": self.message, "pages": list(self.pages)}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """Return the instance that `to_json` stored."""
        return cls(WarningCode(stored["code"]), stored["message"], tuple(stored["pages"]))


@dataclass(frozen=True, slots=True)
class EmbeddingSpace:
    """A set of comparable vectors, stored in `table`: those of one model, dimensions and revision."""

    id: int
    model: str
    dimensions: int
    revision: int

    @property
    def table(self) -> str:
        """The name of the table with its vectors."""
        return f"chunk_vec_{self.id}"


@dataclass(frozen=True, slots=True)
class Document:
    """A file in a collection.

    The fields describe the searchable version, if there is one; `pending_file_id` is the file that will replace it.
    `space` is the embedding space of its vectors.
    """

    workspace_id: UUID
    id: UUID
    collection_id: UUID
    file_id: UUID
    filename: str
    mime_type: str
    size_bytes: int
    sha256: bytes | None
    status: DocumentStatus
    stage: Stage | None
    progress: float
    version: int
    active_build: UUID | None
    pending_file_id: UUID | None
    chunk_count: int
    token_count: int
    attributes: dict[str, object]
    error: FailureInfo | None
    warnings: tuple[DocumentWarning, ...]
    deletion_id: UUID | None
    space: EmbeddingSpace | None
    created_at: datetime
    updated_at: datetime

"""Calls about many documents at once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from ragsvc.domain.documents import DocumentStatus, FailureInfo


class BulkAction(StrEnum):
    """What is done with each of the documents."""

    DELETE = "delete"
    REINGEST = "reingest"


class BulkStatus(StrEnum):
    """Where a bulk operation is; once it is completed, every document has a job of its own."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class BulkSelection:
    """Which documents: all that fit every condition that is given."""

    collection_id: UUID | None = None
    document_status: DocumentStatus | None = None
    filters: dict[str, object] | None = None


@dataclass(frozen=True, slots=True)
class BulkOperation:
    """One call; `matched` documents fitted when it was accepted, `skipped` ones had changed by their turn."""

    workspace_id: UUID
    id: UUID
    action: BulkAction
    selection: BulkSelection
    purge_file: bool
    status: BulkStatus
    matched: int
    accepted: int
    skipped: int
    after_id: UUID | None
    error: FailureInfo | None
    created_at: datetime
    completed_at: datetime | None

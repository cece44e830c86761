"""Bulk operations on documents."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from ragsvc.domain.documents import DocumentStatus, FailureInfo


class BulkAction(StrEnum):
    """The action to apply to each selected document."""

    DELETE = "delete"
    REINGEST = "reingest"


class BulkStatus(StrEnum):
    """Status of a bulk operation; when it is completed, a job has been queued for every document."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class BulkSelection:
    """The documents that match all given conditions."""

    collection_id: UUID | None = None
    document_status: DocumentStatus | None = None
    filters: dict[str, object] | None = None


@dataclass(frozen=True, slots=True)
class BulkOperation:
    """A bulk operation.

    `matched` is the number of documents that matched when the operation was accepted. `skipped` counts those that were
    deleted or busy when the operation reached them.
    """

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

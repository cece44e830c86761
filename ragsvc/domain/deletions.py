"""Deletions and their receipts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from ragsvc.domain.documents import FailureInfo
    from ragsvc.domain.jobs import SubjectKind


class DeletionStatus(StrEnum):
    """Status of a deletion."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class StoreReceipt:
    """The effect of a deletion on one store; `remaining` is counted afterwards, unless the store cannot be searched."""

    store: str
    removed: int
    redacted: int
    remaining: int
    retained_until: datetime | None = None
    is_counted: bool = True


@dataclass(frozen=True, slots=True)
class Deletion:
    """A deletion and, when it is completed, its receipt."""

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

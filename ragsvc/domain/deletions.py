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
    """Where a deletion is."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


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

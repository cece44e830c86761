"""The queue's rows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from ragsvc.domain.ids import Prefix, format_id

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID


class Queue(StrEnum):
    """The two queues; each has its own workers and dead letters."""

    INGESTION = "ingestion"
    DELETION = "deletion"


class JobKind(StrEnum):
    """What a job does; deliveries to webhooks and bulk operations are done by those who remove documents."""

    INGEST = "ingest"
    DELETE = "delete"
    DELIVER = "deliver"
    BULK = "bulk"


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
    """What a job or a deletion is about; a delivery is about itself."""

    DOCUMENT = "document"
    COLLECTION = "collection"
    WORKSPACE = "workspace"
    DELIVERY = "delivery"
    BULK = "bulk"


SUBJECT_PREFIXES: dict[SubjectKind, Prefix] = {
    SubjectKind.DOCUMENT: "doc",
    SubjectKind.COLLECTION: "col",
    SubjectKind.WORKSPACE: "ws",
    SubjectKind.DELIVERY: "dlv",
    SubjectKind.BULK: "bulk",
}


def format_subject_id(kind: SubjectKind, subject_id: UUID) -> str:
    """Return the public form of the id of a job's or a deletion's subject."""
    return format_id(SUBJECT_PREFIXES[kind], subject_id)


@dataclass(frozen=True, slots=True)
class Job:
    """A row of the queue's truth."""

    workspace_id: UUID
    id: UUID
    queue: Queue
    kind: JobKind
    subject_kind: SubjectKind
    subject_id: UUID
    # As stored; the dataclasses in domain/payloads.py read it.
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
    claimed_at: datetime | None


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """A queue as operators see it."""

    queue: Queue
    queued: int
    ready: int
    running: int
    dead: int
    oldest_ready_age_s: float | None
    done_per_minute: float
    dead_per_minute: float
    paused: bool
    reason: str | None
    state_since: datetime
    next_probe_at: datetime | None


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that a worker holds, as operators see it; `lease_left_s` is negative once the worker is late."""

    queue: Queue
    job_id: UUID
    workspace_id: UUID
    subject_kind: SubjectKind
    subject_id: UUID
    worker: str
    stage: str | None
    progress: float
    attempts: int
    rescues: int
    running_s: float
    lease_left_s: float


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """A selection of dead letters; None does not filter, and `ids` are those of jobs or of their subjects."""

    ids: tuple[UUID, ...] | None = None
    code: str | None = None
    workspace_id: UUID | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Outage:
    """Why a queue is paused until a provider answers again."""

    queue: Queue
    code: str
    reason: str
    since: datetime

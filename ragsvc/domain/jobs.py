"""Jobs, queues and dead letters."""

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
    """Kinds of job; deletion workers also deliver webhooks and run bulk operations."""

    INGEST = "ingest"
    DELETE = "delete"
    DELIVER = "deliver"
    BULK = "bulk"


class JobStatus(StrEnum):
    """Status of a job (jobs/lifecycle.py has the state diagram)."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    DEAD = "dead"
    DISCARDED = "discarded"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"


class SubjectKind(StrEnum):
    """Kinds of resource that a job or deletion affects; a delivery is its own subject."""

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
    """Return the public id of the subject of a job or deletion."""
    return format_id(SUBJECT_PREFIXES[kind], subject_id)


@dataclass(frozen=True, slots=True)
class Job:
    """A job, as stored in Postgres."""

    workspace_id: UUID
    id: UUID
    queue: Queue
    kind: JobKind
    subject_kind: SubjectKind
    subject_id: UUID
    # As stored; domain/payloads.py has a dataclass for each kind.
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
    """Statistics of a queue, for operators."""

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
    """A running job, for operators; `lease_left_s` is negative when the lease has expired."""

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
    """The reason why a queue is paused until a provider is reachable again."""

    queue: Queue
    code: str
    reason: str
    since: datetime

"""Jobs, queues and dead letters."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Protocol, Self
from uuid import UUID

from ragsvc.domain.collections import Chunking
from ragsvc.domain.ids import Prefix, format_id

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


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
    # As stored; the classes below named `…Payload` parse it, one per kind.
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


class Fault(StrEnum):
    """Who can fix the cause of a dead letter: the owner of the document or webhook, or the operator of the service."""

    OWNER = "owner"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """Statistics of a queue, for operators; `dead_for_service` are the dead letters that no owner caused."""

    queue: Queue
    queued: int
    ready: int
    running: int
    dead: int
    dead_for_service: int
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
class DeadLetterNames:
    """The names that people know a dead letter by; None if the workspace or the document is gone."""

    workspace_name: str | None = None
    filename: str | None = None


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


# The prefixes of the ids in payloads, which the database stores as bare UUIDs.
PAYLOAD_ID_PREFIXES: dict[str, Prefix] = {"file_id": "file", "deletion_id": "del", "webhook_id": "hook"}


class Payload(Protocol):
    """The arguments of one kind of job."""

    kind: ClassVar[JobKind]

    def to_json(self) -> dict[str, object]:
        """Return the payload as the database stores it."""
        ...


@dataclass(frozen=True, slots=True)
class IngestPayload:
    """The file to ingest; `chunking` is None if the collection's applies."""

    kind: ClassVar[JobKind] = JobKind.INGEST

    file_id: UUID
    chunking: Chunking | None = None

    def to_json(self) -> dict[str, object]:
        """Return the payload as the database stores it."""
        chunking = {"chunking": asdict(self.chunking)} if self.chunking else {}
        return {"file_id": str(self.file_id), **chunking}

    @classmethod
    def from_json(cls, stored: Mapping[str, object]) -> Self:
        """Return the payload of a stored job."""
        return cls(_read_id(stored, "file_id"), _read_chunking(stored.get("chunking")))


@dataclass(frozen=True, slots=True)
class DeletePayload:
    """The deletion to carry out."""

    kind: ClassVar[JobKind] = JobKind.DELETE

    deletion_id: UUID

    def to_json(self) -> dict[str, object]:
        """Return the payload as the database stores it."""
        return {"deletion_id": str(self.deletion_id)}

    @classmethod
    def from_json(cls, stored: Mapping[str, object]) -> Self:
        """Return the payload of a stored job."""
        return cls(_read_id(stored, "deletion_id"))


@dataclass(frozen=True, slots=True)
class DeliverPayload:
    """The event to deliver to a webhook; `data` is sent as it is, so its ids are public ids."""

    kind: ClassVar[JobKind] = JobKind.DELIVER

    webhook_id: UUID
    # A `WebhookEvent`, or one that a newer version has added.
    event: str
    data: dict[str, object]

    def to_json(self) -> dict[str, object]:
        """Return the payload as the database stores it."""
        return {"webhook_id": str(self.webhook_id), "event": self.event, "data": self.data}

    @classmethod
    def from_json(cls, stored: Mapping[str, object]) -> Self:
        """Return the payload of a stored job."""
        data = stored["data"]
        if not isinstance(data, dict):
            raise TypeError(f"the data of a delivery is an object, not {type(data).__name__}")
        return cls(_read_id(stored, "webhook_id"), str(stored["event"]), data)


@dataclass(frozen=True, slots=True)
class BulkPayload:
    """An empty payload: the job's subject, the bulk operation, has all the details."""

    kind: ClassVar[JobKind] = JobKind.BULK

    def to_json(self) -> dict[str, object]:
        """Return the payload as the database stores it."""
        return {}


def show_payload(stored: Mapping[str, object]) -> dict[str, object]:
    """Return a stored payload, of any kind, with its ids converted to public ones, as dead letters show it."""
    return {
        name: _show_id(PAYLOAD_ID_PREFIXES[name], value) if name in PAYLOAD_ID_PREFIXES else value
        for name, value in stored.items()
    }


def _show_id(prefix: Prefix, value: object) -> object:
    try:
        return format_id(prefix, UUID(str(value)))
    except ValueError:
        # Show an invalid id as it is stored, so that one bad row does not break a list.
        return value


def _read_chunking(stored: object) -> Chunking | None:
    match stored:
        case {"max_tokens": int(max_tokens), "overlap_tokens": int(overlap_tokens)}:
            return Chunking(max_tokens, overlap_tokens)
        case _:
            return None


def _read_id(stored: Mapping[str, object], name: str) -> UUID:
    return UUID(str(stored[name]))

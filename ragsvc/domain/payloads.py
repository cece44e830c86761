"""The payloads of jobs: a dataclass for each kind, with its JSON form in the column jobs.payload."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, Self
from uuid import UUID

from ragsvc.domain.collections import Chunking
from ragsvc.domain.ids import Prefix, format_id
from ragsvc.domain.jobs import JobKind
from ragsvc.domain.webhooks import WebhookEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

# The prefixes of the ids in payloads, which the database stores as bare UUIDs.
ID_PREFIXES: dict[str, Prefix] = {"file_id": "file", "deletion_id": "del", "webhook_id": "hook"}


class Payload(Protocol):
    """The arguments of one kind of job."""

    kind: ClassVar[JobKind]

    def to_json(self) -> dict[str, object]:
        """Return the payload as the database stores it."""
        ...


@dataclass(frozen=True, slots=True)
class IngestPayload:
    """The file to ingest; `chunking` is None where the collection's applies."""

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
    event: WebhookEvent
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
        return cls(_read_id(stored, "webhook_id"), WebhookEvent(str(stored["event"])), data)


@dataclass(frozen=True, slots=True)
class BulkPayload:
    """An empty payload: the job's subject, the bulk operation, has all the details."""

    kind: ClassVar[JobKind] = JobKind.BULK

    def to_json(self) -> dict[str, object]:
        """Return the payload as the database stores it."""
        return {}


def show_payload(stored: Mapping[str, object]) -> dict[str, object]:
    """Return a stored payload of any kind with public ids, for dead letters."""
    return {
        name: format_id(ID_PREFIXES[name], UUID(str(value))) if name in ID_PREFIXES else value
        for name, value in stored.items()
    }


def _read_chunking(stored: object) -> Chunking | None:
    match stored:
        case {"max_tokens": int(max_tokens), "overlap_tokens": int(overlap_tokens)}:
            return Chunking(max_tokens, overlap_tokens)
        case _:
            return None


def _read_id(stored: Mapping[str, object], name: str) -> UUID:
    return UUID(str(stored[name]))

"""Upload sessions and upload tokens."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID


class UploadStatus(StrEnum):
    """Status of an upload session (uploads/sessions.py has the state diagram)."""

    PENDING = "pending"
    COMPLETING = "completing"
    COMPLETED = "completed"
    FAILED = "failed"
    ABORTED = "aborted"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload session.

    A session opened by a client has a size, a part size and a collection; one for a file in a single request has none
    of these. If it was opened with an upload token (`token_key_id`, `max_bytes`), the sizes are set on completion.
    """

    workspace_id: UUID
    id: UUID
    bucket: str
    status: UploadStatus
    object_key: str
    s3_upload_id: str | None
    filename: str
    mime_type: str
    declared_size_bytes: int | None
    part_size_bytes: int | None
    sha256: bytes | None
    collection_id: UUID | None
    attributes: dict[str, object]
    chunking: dict[str, int] | None
    document_id: UUID | None
    error: dict[str, str] | None
    expires_at: datetime
    created_at: datetime
    token_key_id: UUID | None = None
    max_bytes: int | None = None
    # The Upload-Metadata header of a tus client, verbatim; None if the session was not opened over tus.
    tus_metadata: str | None = None
    # The tail that counts; None if there is none yet, or if it was stored by a version that did not name tails.
    tail_id: UUID | None = None

    @property
    def api(self) -> str:
        """The API used for the upload: `form` for a single request, or `native`, `tus` or `uppy` for a session."""
        if self.tus_metadata is not None:
            return "tus"
        if self.token_key_id is not None:
            return "uppy"
        return "form" if self.collection_id is None else "native"

    @property
    def tail_prefix(self) -> str:
        """The prefix of the keys of all tails of a tus upload."""
        return f"{self.object_key}.tail"

    @property
    def tail_key(self) -> str:
        """The key of the object that stores the bytes of an incomplete part of a tus upload."""
        return self.tail_prefix if self.tail_id is None else f"{self.tail_prefix}.{self.tail_id.hex}"

    @property
    def size_bytes(self) -> int:
        """The declared size of the file, 0 if unknown."""
        return self.declared_size_bytes or 0

    @property
    def part_count(self) -> int:
        """The number of parts; all have `part_size_bytes` except the last, which can be smaller."""
        return -(-self.size_bytes // self.part_size_bytes) if self.part_size_bytes else 0

    def size_of_part(self, number: int) -> int:
        """Return the size of a part in bytes; parts are numbered from 1."""
        part_size_bytes = self.part_size_bytes or 0
        return min(part_size_bytes, self.size_bytes - (number - 1) * part_size_bytes)


@dataclass(frozen=True, slots=True)
class UploadToken:
    """A short-lived token that permits only uploads of at most `max_bytes` each to one collection."""

    workspace_id: UUID
    id: UUID
    key_id: UUID
    collection_id: UUID
    max_bytes: int
    expires_at: datetime

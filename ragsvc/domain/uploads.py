"""Upload sessions: a file on its way into the store, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID


class UploadStatus(StrEnum):
    """Where a session is in its life (the picture is in uploads/sessions.py)."""

    PENDING = "pending"
    COMPLETING = "completing"
    COMPLETED = "completed"
    FAILED = "failed"
    ABORTED = "aborted"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Upload:
    """A session. Size, part size and collection are known of those that clients open, not of a file in one request.

    Of one that an upload token opened (`token_key_id`, `max_bytes`), the sizes are learned when it is completed.
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
    # What a tus client told of the file, as it wrote it; None for a session that was not opened by tus.
    tus_metadata: str | None = None

    @property
    def api(self) -> str:
        """How the client sends the file: `form` in one request, `native`, `tus` or `uppy` in a session."""
        if self.tus_metadata is not None:
            return "tus"
        if self.token_key_id is not None:
            return "uppy"
        return "form" if self.collection_id is None else "native"

    @property
    def tail_key(self) -> str:
        """Where the store keeps what arrived over tus of a part that is not whole yet."""
        return f"{self.object_key}.tail"

    @property
    def size_bytes(self) -> int:
        """The whole file's size, as it was declared."""
        return self.declared_size_bytes or 0

    @property
    def part_count(self) -> int:
        """How many parts the file has: all of `part_size_bytes`, but for the last, which has the rest."""
        return -(-self.size_bytes // self.part_size_bytes) if self.part_size_bytes else 0

    def size_of_part(self, number: int) -> int:
        """Return how many bytes the part has; parts are counted from 1."""
        part_size_bytes = self.part_size_bytes or 0
        return min(part_size_bytes, self.size_bytes - (number - 1) * part_size_bytes)


@dataclass(frozen=True, slots=True)
class UploadToken:
    """A short-lived token that can only upload files of at most `max_bytes` into one collection."""

    workspace_id: UUID
    id: UUID
    key_id: UUID
    collection_id: UUID
    max_bytes: int
    expires_at: datetime

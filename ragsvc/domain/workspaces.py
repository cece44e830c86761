"""Workspaces and their API keys."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID


@dataclass(frozen=True, slots=True)
class Location:
    """Location of a workspace's objects: a bucket of its own, or a key prefix in a shared bucket."""

    bucket: str
    key_prefix: str = ""

    @property
    def is_shared(self) -> bool:
        """Whether other workspaces use the same bucket."""
        return bool(self.key_prefix)


@dataclass(frozen=True, slots=True)
class Workspace:
    """A tenant."""

    id: UUID
    name: str
    bucket: str
    key_prefix: str
    quota_bytes: int | None
    created_at: datetime

    @property
    def location(self) -> Location:
        """The location of its objects."""
        return Location(self.bucket, self.key_prefix)

    def object_key(self, object_id: UUID) -> str:
        """Return the key of an object in its bucket; it contains no text chosen by a client."""
        return f"{self.key_prefix}objects/{object_id.hex}"


@dataclass(frozen=True, slots=True)
class Usage:
    """Documents, chunks and storage of a workspace."""

    documents: int
    chunks: int
    storage_bytes: int


class Scope(StrEnum):
    """Permissions of a workspace's API key."""

    READ = "read"
    WRITE = "write"
    CHAT = "chat"
    UPLOAD = "upload"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key of a workspace, without the secret."""

    workspace_id: UUID
    id: UUID
    name: str
    key_prefix: str
    scopes: tuple[Scope, ...]
    expires_at: datetime | None
    revoked_at: datetime | None
    replaced_by: UUID | None
    last_used_at: datetime | None
    created_at: datetime

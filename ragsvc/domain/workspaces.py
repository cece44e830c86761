"""Tenants, their keys and their collections."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID


class Scope(StrEnum):
    """What a workspace key may do."""

    READ = "read"
    WRITE = "write"
    CHAT = "chat"
    UPLOAD = "upload"


@dataclass(frozen=True, slots=True)
class Location:
    """Where a workspace keeps its objects: a bucket of its own, or a prefix in one that it shares."""

    bucket: str
    key_prefix: str = ""

    @property
    def is_shared(self) -> bool:
        """Whether other workspaces keep theirs in the bucket too."""
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
        """Where its objects are."""
        return Location(self.bucket, self.key_prefix)

    def object_key(self, object_id: UUID) -> str:
        """Return the key of an object in its bucket; it names nothing that a client chose."""
        return f"{self.key_prefix}objects/{object_id.hex}"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a workspace holds."""

    documents: int
    chunks: int
    storage_bytes: int


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A workspace's key, without the secret."""

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


@dataclass(frozen=True, slots=True)
class Chunking:
    """How text is cut: tokens per chunk, and tokens that neighbours share."""

    max_tokens: int
    overlap_tokens: int


@dataclass(frozen=True, slots=True)
class Collection:
    """Documents that are searched together; `chunking` is None where the service's default holds."""

    workspace_id: UUID
    id: UUID
    name: str
    is_default: bool
    chunking: Chunking | None
    metadata: dict[str, object]
    created_at: datetime
    updated_at: datetime

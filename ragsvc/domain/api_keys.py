"""API keys and their scopes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID


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

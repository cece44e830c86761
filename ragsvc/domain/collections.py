"""Collections and their chunking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID


@dataclass(frozen=True, slots=True)
class Chunking:
    """Chunk size and overlap of adjacent chunks, in tokens."""

    max_tokens: int
    overlap_tokens: int


@dataclass(frozen=True, slots=True)
class Collection:
    """Documents that are searched together; `chunking` is None if the service's default applies."""

    workspace_id: UUID
    id: UUID
    name: str
    is_default: bool
    chunking: Chunking | None
    metadata: dict[str, object]
    created_at: datetime
    updated_at: datetime

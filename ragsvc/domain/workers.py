"""Worker processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from ragsvc.domain.jobs import Queue


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A worker process, as it last reported itself."""

    id: UUID
    queue: Queue
    name: str
    version: str
    concurrency: int
    started_at: datetime
    last_seen_at: datetime
    last_look_at: datetime
    is_alive: bool


@dataclass(frozen=True, slots=True)
class WorkerCount:
    """The number of live workers of a queue, and how long ago any was last seen; None if none is known."""

    queue: Queue
    alive: int
    last_seen_age_s: float | None

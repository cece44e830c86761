"""Where a workspace wants to be told what became of its documents."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID


class WebhookEvent(StrEnum):
    """What is told: a document's version can be found, its ingestion failed for good, all of it is removed."""

    DOCUMENT_READY = "document.ready"
    DOCUMENT_FAILED = "document.failed"
    DOCUMENT_DELETED = "document.deleted"


@dataclass(frozen=True, slots=True)
class Webhook:
    """A URL, what it is told, and what signs it."""

    workspace_id: UUID
    id: UUID
    url: str
    events: tuple[WebhookEvent, ...]
    created_at: datetime
    secret: bytes = field(repr=False)

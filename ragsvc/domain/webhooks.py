"""Webhooks and the events that they receive."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID


class WebhookEvent(StrEnum):
    """Events: a document version is searchable, its ingestion failed permanently, or the document is deleted."""

    DOCUMENT_READY = "document.ready"
    DOCUMENT_FAILED = "document.failed"
    DOCUMENT_DELETED = "document.deleted"


@dataclass(frozen=True, slots=True)
class Webhook:
    """A URL, the events sent to it, and the secret that signs them."""

    workspace_id: UUID
    id: UUID
    url: str
    events: tuple[WebhookEvent, ...]
    created_at: datetime
    secret: bytes = field(repr=False)

"""Who acts, from where, and what of it is kept."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID


class ActorKind(StrEnum):
    """Who may act: whoever holds the admin key, a workspace's key, an operator's shell, or the service itself."""

    ADMIN = "admin"
    KEY = "key"
    CLI = "cli"
    SYSTEM = "system"


class AuditAction(StrEnum):
    """What is kept: every act of an operator, and every deletion."""

    WORKSPACE_CREATED = "workspace.created"
    WORKSPACE_DELETED = "workspace.deleted"
    KEY_CREATED = "key.created"
    KEY_ROTATED = "key.rotated"
    KEY_REVOKED = "key.revoked"
    COLLECTION_DELETED = "collection.deleted"
    DOCUMENT_DELETED = "document.deleted"
    DOCUMENTS_DELETED = "documents.deleted"
    FILE_DELETED = "file.deleted"
    CHAT_SESSION_DELETED = "chat_session.deleted"
    WEBHOOK_CREATED = "webhook.created"
    WEBHOOK_DELETED = "webhook.deleted"
    QUEUE_PAUSED = "queue.paused"
    QUEUE_RESUMED = "queue.resumed"
    DLQ_REPLAYED = "dlq.replayed"
    DLQ_PURGED = "dlq.purged"
    STORAGE_CLEANED = "storage.cleaned"


class AuditSubject(StrEnum):
    """What an act is about."""

    WORKSPACE = "workspace"
    KEY = "key"
    COLLECTION = "collection"
    DOCUMENT = "document"
    BULK = "bulk"
    FILE = "file"
    CHAT_SESSION = "chat_session"
    WEBHOOK = "webhook"
    QUEUE = "queue"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts; `ip` is the peer's, a balancer's for one, and `forwarded_for` what the request claims."""

    kind: ActorKind
    name: str
    id: UUID | None = None
    request_id: str | None = None
    ip: str | None = None
    forwarded_for: str | None = None
    user_agent: str | None = None


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """An act that was done; the subject's id is a UUID in hex, or a queue's name."""

    id: UUID
    occurred_at: datetime
    action: AuditAction
    actor: Actor
    workspace_id: UUID | None
    subject_kind: AuditSubject | None
    subject_id: str | None
    details: dict[str, object]


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which events; None stands for all."""

    workspace_id: UUID | None = None
    action: AuditAction | None = None
    actor_kind: ActorKind | None = None
    actor_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None


SERVICE = Actor(ActorKind.SYSTEM, "ragsvc")
# Who acts in this task: set at a request's or a command's beginning, so that no step in between has to hand it on.
acting: ContextVar[Actor] = ContextVar("acting", default=SERVICE)

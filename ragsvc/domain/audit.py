"""Actors and audit events."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID


class ActorKind(StrEnum):
    """Kinds of actor: the admin key, a workspace's API key, an operator's shell, or the service itself."""

    ADMIN = "admin"
    KEY = "key"
    CLI = "cli"
    SYSTEM = "system"


class AuditAction(StrEnum):
    """Audited actions: all actions of operators and all deletions."""

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
    """Kinds of resource that an action affects."""

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
    """Who performed an action; `ip` is the peer (perhaps a load balancer), `forwarded_for` the unverified header."""

    kind: ActorKind
    name: str
    id: UUID | None = None
    request_id: str | None = None
    ip: str | None = None
    forwarded_for: str | None = None
    user_agent: str | None = None


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """An action that took place; `subject_id` is a UUID in hex, or the name of a queue."""

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
    """Conditions on audit events; None matches all."""

    workspace_id: UUID | None = None
    action: AuditAction | None = None
    actor_kind: ActorKind | None = None
    actor_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None


SERVICE = Actor(ActorKind.SYSTEM, "ragsvc")
# The actor of the current task, set when a request or command starts, so that it need not be passed through every call.
acting: ContextVar[Actor] = ContextVar("acting", default=SERVICE)

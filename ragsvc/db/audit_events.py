"""The append-only table audit_events."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from ragsvc.domain.audit import Actor, ActorKind, AuditAction, AuditEvent, AuditSubject, acting
from ragsvc.domain.ids import new_id

if TYPE_CHECKING:
    from ragsvc.db.connections.pool import Connection, Record
    from ragsvc.domain.audit import AuditFilter

COLUMNS = (
    "id, occurred_at, action, actor_kind, actor_id, actor_name, workspace_id, subject_kind, subject_id, details,"
    " request_id, ip, forwarded_for, user_agent"
)

INSERT_AUDIT_EVENT = """
INSERT INTO audit_events (id, action, actor_kind, actor_id, actor_name, workspace_id, subject_kind, subject_id, details,
    request_id, ip, forwarded_for, user_agent)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
"""

SELECT_AUDIT_EVENTS = f"""
SELECT {COLUMNS} FROM audit_events
WHERE ($1::uuid IS NULL OR workspace_id = $1) AND ($2::text IS NULL OR action = $2)
  AND ($3::text IS NULL OR actor_kind = $3) AND ($4::uuid IS NULL OR actor_id = $4)
  AND ($5::timestamptz IS NULL OR occurred_at >= $5) AND ($6::timestamptz IS NULL OR occurred_at < $6)
  AND ($7::uuid IS NULL OR id < $7)
ORDER BY id DESC LIMIT $8
"""


async def insert_audit_event(
    conn: Connection,
    action: AuditAction,
    *,
    workspace_id: UUID | None = None,
    subject: tuple[AuditSubject, UUID | str] | None = None,
    details: dict[str, object] | None = None,
) -> None:
    """Record an action of the current actor; call it in the transaction of the action."""
    actor = acting.get()
    kind, subject_id = subject or (None, None)
    await conn.execute(
        INSERT_AUDIT_EVENT,
        new_id(),
        action,
        actor.kind,
        actor.id,
        actor.name,
        workspace_id,
        kind,
        subject_id.hex if isinstance(subject_id, UUID) else subject_id,
        details or {},
        actor.request_id,
        actor.ip,
        actor.forwarded_for,
        actor.user_agent,
    )


async def select_audit_events(
    conn: Connection, filters: AuditFilter, *, before: UUID | None = None, limit: int
) -> list[AuditEvent]:
    """Return at most `limit` events, newest first, older than `before` if given."""
    rows = await conn.fetch(
        SELECT_AUDIT_EVENTS,
        filters.workspace_id,
        filters.action,
        filters.actor_kind,
        filters.actor_id,
        filters.since,
        filters.until,
        before,
        limit,
    )
    return [to_audit_event(row) for row in rows]


def to_audit_event(row: Record) -> AuditEvent:
    """Convert a row with COLUMNS to an audit event."""
    return AuditEvent(
        id=row["id"],
        occurred_at=row["occurred_at"],
        action=AuditAction(row["action"]),
        actor=Actor(
            kind=ActorKind(row["actor_kind"]),
            name=row["actor_name"],
            id=row["actor_id"],
            request_id=row["request_id"],
            ip=row["ip"],
            forwarded_for=row["forwarded_for"],
            user_agent=row["user_agent"],
        ),
        workspace_id=row["workspace_id"],
        subject_kind=AuditSubject(row["subject_kind"]) if row["subject_kind"] else None,
        subject_id=row["subject_id"],
        details=row["details"],
    )

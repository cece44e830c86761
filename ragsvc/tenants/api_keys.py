"""Creates, rotates and revokes a workspace's API keys; only a key's sha256 is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from ragsvc.db import api_keys, workspaces
from ragsvc.db.audit_events import insert_audit_event
from ragsvc.domain.audit import AuditAction, AuditSubject
from ragsvc.domain.ids import format_id
from ragsvc.domain.workspaces import Scope
from ragsvc.errors.requests import KeyRotated, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.workspaces import ApiKey
    from ragsvc.resources import Resources

log = structlog.get_logger(__name__)


async def create_key(
    resources: Resources,
    workspace_id: UUID,
    key_id: UUID,
    *,
    name: str,
    key_hash: bytes,
    key_prefix: str,
    scopes: Iterable[Scope],
    expires_at: datetime | None,
) -> ApiKey:
    """Add a key to the workspace; `key_prefix` is the part of the secret that remains visible.

    Raises:
        NotFound: the workspace does not exist or is being deleted.
    """
    async with resources.pool.acquire() as conn, conn.transaction():
        key = await api_keys.insert_api_key(
            conn,
            workspace_id,
            key_id,
            name=name,
            key_hash=key_hash,
            key_prefix=key_prefix,
            scopes=sorted(set(scopes), key=list(Scope).index),
            expires_at=expires_at,
        )
        if key is None:
            raise NotFound
        await _record_audit_event(conn, AuditAction.KEY_CREATED, key, scopes=list(key.scopes))
    log.info("key_created", workspace_id=workspace_id, key_id=key.id, scopes=list(key.scopes))
    return key


async def find_key_by_hash(resources: Resources, key_hash: bytes) -> ApiKey | None:
    """Return the key with this sha256; None if it is unknown, expired or revoked."""
    async with resources.pool.acquire_for_lookup() as lookup:
        owner = await api_keys.select_key_owner(lookup, key_hash)
    return owner.key if owner else None


async def list_keys(resources: Resources, workspace_id: UUID, *, before: UUID | None, limit: int) -> list[ApiKey]:
    """Return at most `limit` of the workspace's unrevoked keys created before `before`, newest first.

    Raises:
        NotFound: the workspace does not exist.
    """
    async with resources.pool.acquire() as conn:
        if await workspaces.select_workspace(conn, workspace_id) is None:
            raise NotFound
        return await api_keys.select_api_keys(conn, workspace_id, before=before, limit=limit)


async def rotate_key(
    resources: Resources,
    workspace_id: UUID,
    key_id: UUID,
    *,
    successor_id: UUID,
    key_hash: bytes,
    key_prefix: str,
    overlap_s: float,
    expires_at: datetime | None,
) -> ApiKey:
    """Add a successor with the same scopes, and expire the old key after `overlap_s` seconds.

    Raises:
        NotFound: the key does not exist or is revoked.
        KeyRotated: the key already has a successor.
    """
    async with resources.pool.acquire() as conn, conn.transaction():
        key = await api_keys.rotate_api_key(
            conn,
            workspace_id,
            key_id,
            successor_id=successor_id,
            key_hash=key_hash,
            key_prefix=key_prefix,
            overlap_s=overlap_s,
            expires_at=expires_at,
        )
        if key is None:
            raise KeyRotated if await api_keys.select_api_key(conn, workspace_id, key_id) else NotFound
        replaced = format_id("key", key_id)
        await _record_audit_event(conn, AuditAction.KEY_ROTATED, key, replaces=replaced, overlap_s=overlap_s)
    log.info("key_rotated", workspace_id=workspace_id, key_id=key_id, successor_id=key.id)
    return key


async def revoke_key(resources: Resources, workspace_id: UUID, key_id: UUID) -> None:
    """Revoke a key; every request is checked against the table, so the next one with this key fails.

    Raises:
        NotFound: the key does not exist or is already revoked.
    """
    async with resources.pool.acquire() as conn, conn.transaction():
        key = await api_keys.revoke_api_key(conn, workspace_id, key_id)
        if key is None:
            raise NotFound
        await _record_audit_event(conn, AuditAction.KEY_REVOKED, key)
    log.info("key_revoked", workspace_id=workspace_id, key_id=key_id)


async def _record_audit_event(conn: Connection, action: AuditAction, key: ApiKey, **details: object) -> None:
    await insert_audit_event(
        conn,
        action,
        workspace_id=key.workspace_id,
        subject=(AuditSubject.KEY, key.id),
        details={"name": key.name, "key_prefix": key.key_prefix, **details},
    )

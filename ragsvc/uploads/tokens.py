"""Creates and finds upload tokens; only a token's sha256 is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from ragsvc.db import upload_tokens
from ragsvc.uploads.registration import pin_collection

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.domain.uploads import UploadToken
    from ragsvc.resources import Resources

log = structlog.get_logger(__name__)


async def create_upload_token(
    resources: Resources,
    workspace_id: UUID,
    token_id: UUID,
    *,
    key_id: UUID,
    token_hash: bytes,
    collection_id: UUID | None,
    max_bytes: int | None,
    ttl_s: float,
) -> UploadToken:
    """Add a token that is valid for `ttl_s` seconds, and remove the workspace's expired ones.

    If `collection_id` is None, the default collection is used; `max_bytes` is capped at MAX_UPLOAD_BYTES.

    Raises:
        NotFound: there is no such collection.
    """
    limit_bytes = resources.settings.api.max_upload_bytes
    async with resources.pool.acquire() as conn, conn.transaction():
        collection = await pin_collection(conn, workspace_id, collection_id)
        await upload_tokens.delete_expired_tokens(conn, workspace_id)
        token = await upload_tokens.insert_upload_token(
            conn,
            workspace_id,
            token_id,
            key_id=key_id,
            token_hash=token_hash,
            collection_id=collection.id,
            max_bytes=min(max_bytes or limit_bytes, limit_bytes),
            ttl_s=ttl_s,
        )
    log.info("upload_token_created", token_id=token.id, max_bytes=token.max_bytes)
    return token


async def find_token_by_hash(resources: Resources, token_hash: bytes) -> UploadToken | None:
    """Return the token with this sha256; None if it is unknown or expired, or its key is revoked."""
    async with resources.pool.acquire_for_lookup() as lookup:
        owner = await upload_tokens.select_token_owner(lookup, token_hash)
    return owner[1] if owner else None

"""Sessions opened with an upload token, by pages that need not declare the file's size.

If the size is declared, the parts have the size that Uppy gives them, and the session is like any other: the store
accepts parts of exactly that size. Otherwise the parts go through the API, which counts their bytes, and their size is
derived from the stored parts on completion.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from ragsvc.db import upload_sessions, workspaces
from ragsvc.domain.ids import new_id
from ragsvc.domain.uploads import UploadStatus
from ragsvc.errors.requests import NotFound, PartNumberOutOfRange, PartSizeMismatch, PartsMissing, TooLarge
from ragsvc.settings.groups.base import MIB
from ragsvc.settings.settings import MOST_PARTS
from ragsvc.storage.errors import ObjectMissing
from ragsvc.uploads.part_streams import store_part
from ragsvc.uploads.quotas import claim_quota
from ragsvc.uploads.registration import pin_collection
from ragsvc.uploads.sessions import (
    abort_session,
    check_part_number,
    load_session,
    open_in_store,
    require_pending,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from uuid import UUID

    from ragsvc.domain.uploads import Upload, UploadToken
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources
    from ragsvc.storage.objects import StoredPart

# S3's minimum for every part but the last; some stores do not enforce it.
MIN_PART_BYTES = 5 * MIB

log = structlog.get_logger(__name__)


async def open_token_session(
    resources: Resources,
    workspace: Workspace,
    token: UploadToken,
    *,
    filename: str,
    mime_type: str,
    size_bytes: int | None,
) -> Upload:
    """Open a session for the token's collection; a declared size counts towards the quota.

    Raises:
        TooLarge, QuotaExceeded: the file exceeds the token's limit or the quota.
        NotFound: the collection was deleted.
    """
    if size_bytes is not None and size_bytes > token.max_bytes:
        raise TooLarge(f"A file can have at most {token.max_bytes} bytes.")
    upload_id = new_id()
    async with resources.pool.acquire() as conn, conn.transaction():
        collection = await pin_collection(conn, workspace.id, token.collection_id)
        await claim_quota(conn, workspace, added_bytes=size_bytes or 1)
        upload = await upload_sessions.insert_upload(
            conn,
            workspace.id,
            upload_id,
            object_key=workspace.object_key(upload_id),
            filename=filename,
            mime_type=mime_type,
            expires_s=resources.settings.api.upload_expires_s,
            declared_size_bytes=size_bytes,
            part_size_bytes=None if size_bytes is None else _part_size_of(size_bytes),
            collection_id=collection.id,
            token_key_id=token.key_id,
            max_bytes=token.max_bytes,
        )
    return await open_in_store(resources, upload)


def _part_size_of(size_bytes: int) -> int:
    """Return the size of the parts into which Uppy splits a file by default."""
    return max(MIN_PART_BYTES, -(-size_bytes // MOST_PARTS))


async def load_token_session(resources: Resources, token: UploadToken, upload_id: UUID, *, object_key: str) -> Upload:
    """Return a session that this token, or another token of the same key and collection, has opened.

    Raises:
        NotFound: there is no such session.
    """
    upload = await load_session(resources, token.workspace_id, upload_id)
    if (upload.token_key_id, upload.collection_id, upload.object_key) != (
        token.key_id,
        token.collection_id,
        object_key,
    ):
        raise NotFound
    return upload


async def presign_token_part(resources: Resources, upload: Upload, number: int) -> str | None:
    """Return a presigned URL for sending the part to the store, which accepts only the part's exact size.

    Return None if the file's size was not declared: its parts must be sent to the API, which counts them.

    Raises:
        UploadNotPending: the session has ended or is being completed.
        PartNumberOutOfRange, TooLarge: a file within the limits has no part with this number.
    """
    upload, s3_upload_id = require_pending(upload)
    if upload.part_size_bytes is None:
        _check_undeclared_part(upload, number)
        return None
    check_part_number(upload, number)
    return await resources.storage.presign_part(
        upload.bucket,
        upload.object_key,
        upload_id=s3_upload_id,
        number=number,
        size_bytes=upload.size_of_part(number),
    )


def _check_undeclared_part(upload: Upload, number: int) -> None:
    if not 1 <= number <= MOST_PARTS:
        raise PartNumberOutOfRange(f"A file has parts 1 to {MOST_PARTS}; there is no part {number}.")
    if (number - 1) * MIN_PART_BYTES >= (upload.max_bytes or 0):
        raise TooLarge(
            f"The file can have at most {upload.max_bytes} bytes, with at least {MIN_PART_BYTES} in every part but the"
            " last."
        )


async def receive_token_part(
    resources: Resources,
    workspace: Workspace,
    upload: Upload,
    *,
    number: int,
    size_bytes: int,
    source: AsyncIterator[bytes],
) -> StoredPart:
    """Store a part of a file of undeclared size, within the token's limit and the quota.

    Raises:
        UploadNotPending: the session has ended or is being completed.
        PartNumberOutOfRange, PartSizeMismatch: there is no such part, or more or fewer bytes are sent than announced.
        TooLarge, QuotaExceeded: the parts exceed the token's limit or the quota.
    """
    upload, s3_upload_id = require_pending(upload)
    _check_undeclared_part(upload, number)
    parts = await resources.storage.list_parts(upload.bucket, upload.object_key, upload_id=s3_upload_id)
    added_bytes = size_bytes - sum(part.size_bytes for part in parts if part.number == number)
    async with resources.pool.acquire() as conn, conn.transaction():
        await claim_quota(conn, workspace, added_bytes=added_bytes)
        if not await upload_sessions.add_received_bytes(conn, workspace.id, upload.id, added_bytes=added_bytes):
            raise TooLarge(f"The file can have at most {upload.max_bytes} bytes.")
    try:
        return await store_part(resources, upload, number=number, size_bytes=size_bytes, digests={}, source=source)
    except BaseException:
        # If the process dies instead, the session reserves too much until it ends.
        await asyncio.shield(_return_bytes(resources, upload, size_bytes=added_bytes))
        raise


async def _return_bytes(resources: Resources, upload: Upload, *, size_bytes: int) -> None:
    try:
        async with resources.pool.acquire() as conn:
            await upload_sessions.add_received_bytes(conn, upload.workspace_id, upload.id, added_bytes=-size_bytes)
    except Exception as error:  # noqa: BLE001 - the caller re-raises the original error
        log.warning("received_bytes_not_returned", upload_id=upload.id, error=error)


async def learn_size(resources: Resources, upload: Upload, *, part_count: int | None = None) -> Upload:
    """Set the file's size and part size from the parts in the store, and reserve quota for an undeclared size.

    Raises:
        PartsMissing: part numbers are missing.
        PartSizeMismatch: the parts before the last one differ in size or are too small, or the last one is larger.
        TooLarge: the file exceeds the token's limit; the session is aborted.
        QuotaExceeded: the file exceeds the quota.
    """
    if upload.part_size_bytes is not None or upload.status is not UploadStatus.PENDING:
        return upload
    try:
        parts = await resources.storage.list_parts(
            upload.bucket, upload.object_key, upload_id=upload.s3_upload_id or ""
        )
    except ObjectMissing:
        # The upload was completed, or the store lost it; completing the session determines which.
        return upload
    size_bytes = _sum_sizes(parts, part_count=part_count)
    if size_bytes > (upload.max_bytes or 0):
        await abort_session(resources, upload.workspace_id, upload.id)
        raise TooLarge(f"The file can have at most {upload.max_bytes} bytes and has {size_bytes}.")
    async with resources.pool.acquire() as conn, conn.transaction():
        workspace = await workspaces.select_workspace(conn, upload.workspace_id)
        if workspace is None:
            raise NotFound
        await upload_sessions.update_learned(
            conn, workspace.id, upload.id, size_bytes=size_bytes, part_size_bytes=parts[0].size_bytes
        )
        # The updated row already counts towards the quota.
        await claim_quota(conn, workspace, added_bytes=0)
    return await load_session(resources, upload.workspace_id, upload.id)


def _sum_sizes(parts: Sequence[StoredPart], *, part_count: int | None) -> int:
    numbers = {part.number for part in parts}
    expected_count = max(part_count or 1, *numbers, 1)
    missing = tuple(number for number in range(1, expected_count + 1) if number not in numbers)
    if missing:
        raise PartsMissing(missing=missing)
    first, last = parts[0], parts[-1]
    if len(parts) > 1 and first.size_bytes < MIN_PART_BYTES:
        raise PartSizeMismatch(f"Every part but the last must have at least {MIN_PART_BYTES} bytes.")
    if last.size_bytes > first.size_bytes or any(part.size_bytes != first.size_bytes for part in parts[:-1]):
        raise PartSizeMismatch("All parts but the last must have the same size, and the last must not be larger.")
    return sum(part.size_bytes for part in parts)

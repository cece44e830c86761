"""Sessions of an upload token, whose client does not say how large the parts are: that is learned at the end.

From then on they are sessions like any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.db import upload_sessions, workspaces
from ragsvc.domain.ids import new_id
from ragsvc.domain.uploads import UploadStatus
from ragsvc.errors import NotFound, PartNumberOutOfRange, PartSizeMismatch, PartsMissing, TooLarge
from ragsvc.settings.groups import MIB
from ragsvc.settings.settings import MOST_PARTS
from ragsvc.storage.errors import ObjectMissing
from ragsvc.uploads.quotas import claim_quota
from ragsvc.uploads.registration import find_collection
from ragsvc.uploads.sessions import abort_session, load_session, open_in_store, require_pending

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ragsvc.domain.uploads import Upload, UploadToken
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources
    from ragsvc.storage.objects import StoredPart

# What S3 asks of every part but the last; some stores do not.
MIN_PART_BYTES = 5 * MIB


async def open_token_session(
    resources: Resources,
    workspace: Workspace,
    token: UploadToken,
    *,
    filename: str,
    mime_type: str,
    size_bytes: int | None,
) -> Upload:
    """Open a session into the token's collection; a size that is said is reserved.

    Raises:
        TooLarge, QuotaExceeded: the file has no room.
        NotFound: the collection is gone.
    """
    if size_bytes is not None and size_bytes > token.max_bytes:
        raise TooLarge(f"A file may have {token.max_bytes} bytes.")
    upload_id = new_id()
    async with resources.pool.acquire() as conn, conn.transaction():
        collection = await find_collection(conn, workspace.id, token.collection_id)
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
            collection_id=collection.id,
            token_key_id=token.key_id,
            max_bytes=token.max_bytes,
        )
    return await open_in_store(resources, upload)


async def load_token_session(resources: Resources, token: UploadToken, upload_id: UUID, *, object_key: str) -> Upload:
    """Return a session that a token of the same key opened for the same collection, this one or one before it.

    Raises:
        NotFound: there is none.
    """
    upload = await load_session(resources, token.workspace_id, upload_id)
    if (upload.token_key_id, upload.collection_id, upload.object_key) != (
        token.key_id,
        token.collection_id,
        object_key,
    ):
        raise NotFound
    return upload


async def presign_token_part(resources: Resources, upload: Upload, number: int) -> str:
    """Return a URL that takes the part.

    Raises:
        UploadNotPending: the session is over.
        PartNumberOutOfRange, TooLarge: so many parts are more than the file may have.
    """
    upload, s3_upload_id = require_pending(upload)
    if not 1 <= number <= MOST_PARTS:
        raise PartNumberOutOfRange(f"A file has the parts 1 to {MOST_PARTS}, not {number}.")
    max_bytes = upload.declared_size_bytes or upload.max_bytes or 0
    if (number - 1) * MIN_PART_BYTES >= max_bytes:
        raise TooLarge(f"The file may have {max_bytes} bytes, and every part but the last {MIN_PART_BYTES}.")
    return await resources.storage.presign_part(upload.bucket, upload.object_key, upload_id=s3_upload_id, number=number)


async def learn_size(resources: Resources, upload: Upload, *, part_count: int | None = None) -> Upload:
    """Take the file's size and its parts' from the parts that the store has, and reserve what was not declared.

    Raises:
        PartsMissing: they do not follow one another, or are not `part_count`, or not what was declared.
        PartSizeMismatch: no file is cut like that.
        TooLarge, QuotaExceeded: the file has no room; one that is too large is aborted.
    """
    if upload.part_size_bytes is not None or upload.status is not UploadStatus.PENDING:
        return upload
    try:
        parts = await resources.storage.list_parts(
            upload.bucket, upload.object_key, upload_id=upload.s3_upload_id or ""
        )
    except ObjectMissing:
        # Completing finds out what that means.
        return upload
    size_bytes = _sum_sizes(parts, part_count=part_count)
    if size_bytes > (upload.max_bytes or 0):
        await abort_session(resources, upload.workspace_id, upload.id)
        raise TooLarge(f"The file may have {upload.max_bytes} bytes, and has {size_bytes}.")
    if upload.declared_size_bytes not in {None, size_bytes}:
        raise PartsMissing(f"The file has {upload.declared_size_bytes} bytes, and its parts have {size_bytes}.")
    async with resources.pool.acquire() as conn, conn.transaction():
        workspace = await workspaces.select_workspace(conn, upload.workspace_id)
        if workspace is None:
            raise NotFound
        await upload_sessions.update_learned(
            conn, workspace.id, upload.id, size_bytes=size_bytes, part_size_bytes=parts[0].size_bytes
        )
        # The row holds the reservation by now.
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
        raise PartSizeMismatch(f"Every part but the last has at least {MIN_PART_BYTES} bytes.")
    if last.size_bytes > first.size_bytes or any(part.size_bytes != first.size_bytes for part in parts[:-1]):
        raise PartSizeMismatch("Every part but the last has the size of the first.")
    return sum(part.size_bytes for part in parts)

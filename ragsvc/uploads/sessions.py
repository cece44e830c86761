"""Upload sessions, shared by all APIs: a file of a declared size, sent in parts in any order and by any process.

                        ┌─────────── parts are missing ────────────┐
                        ▼                                          │
    open ──▶  pending ─────── complete (lease) ──────▶  completing ──▶  completed (file, document, job)
                 │                                         │
                 ├── abort ──▶  aborted                    └── the store has neither parts nor object ──▶  failed
                 └── EXPIRES ─▶  expired

The store is the source of truth for which parts exist: a client can ask any API process and resume from there.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from ragsvc.db import upload_sessions
from ragsvc.domain.ids import new_id
from ragsvc.domain.uploads import UploadStatus
from ragsvc.errors.requests import NotFound, PartNumberOutOfRange, TooLarge, UploadNotPending
from ragsvc.settings.groups.base import MIB
from ragsvc.settings.settings import MOST_PARTS
from ragsvc.storage.errors import ObjectMissing
from ragsvc.telemetry.metrics import UPLOADS
from ragsvc.uploads.cleaning import abandon, clean_upload
from ragsvc.uploads.quotas import claim_quota
from ragsvc.uploads.registration import pin_collection

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ragsvc.domain.uploads import Upload
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources
    from ragsvc.storage.objects import StoredPart

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class UploadState:
    """A session with its parts in the store, and the numbers of the parts that have not been sent yet."""

    upload: Upload
    received: tuple[StoredPart, ...] = ()
    missing: tuple[int, ...] = ()


def part_size_for(size_bytes: int, *, min_bytes: int) -> int:
    """Return the part size in bytes: `min_bytes`, or more whole MiB if the file would not fit into MOST_PARTS parts."""
    needed_bytes = -(-size_bytes // MOST_PARTS)
    return max(min_bytes, -(-needed_bytes // MIB) * MIB)


async def open_session(
    resources: Resources,
    workspace: Workspace,
    *,
    filename: str,
    size_bytes: int,
    mime_type: str,
    sha256: bytes | None,
    collection_id: UUID | None,
    attributes: dict[str, object],
    chunking: dict[str, int] | None,
    tus_metadata: str | None = None,
    upload_id: UUID | None = None,
) -> Upload:
    """Open a session; its declared size counts towards the quota until it ends.

    Raises:
        TooLarge, QuotaExceeded: the file exceeds the size limit or the quota.
        NotFound: there is no such collection.
    """
    settings = resources.settings
    if size_bytes > settings.api.max_upload_bytes:
        raise TooLarge(f"A file can have at most {settings.api.max_upload_bytes} bytes.")
    upload_id = upload_id or new_id()
    async with resources.pool.acquire() as conn, conn.transaction():
        collection = await pin_collection(conn, workspace.id, collection_id)
        await claim_quota(conn, workspace, added_bytes=size_bytes)
        # Inserted before anything is sent to the store, so that the sweeper can clean up after a crash.
        upload = await upload_sessions.insert_upload(
            conn,
            workspace.id,
            upload_id,
            object_key=workspace.object_key(upload_id),
            filename=filename,
            mime_type=mime_type,
            expires_s=settings.api.upload_expires_s,
            declared_size_bytes=size_bytes,
            part_size_bytes=part_size_for(size_bytes, min_bytes=settings.api.upload_part_size_bytes),
            sha256=sha256,
            collection_id=collection.id,
            attributes=attributes,
            chunking=chunking,
            tus_metadata=tus_metadata,
        )
    return await open_in_store(resources, upload)


async def load_session(resources: Resources, workspace_id: UUID, upload_id: UUID) -> Upload:
    """Return a session that a client opened.

    Raises:
        NotFound: there is no such session.
    """
    async with resources.pool.acquire() as conn:
        upload = await upload_sessions.select_upload(conn, workspace_id, upload_id)
    if upload is None or upload.collection_id is None:
        raise NotFound
    return upload


async def load_state(resources: Resources, workspace_id: UUID, upload_id: UUID) -> UploadState:
    """Return a session with the parts that the store lists.

    Raises:
        NotFound: there is no such session.
    """
    upload = await load_session(resources, workspace_id, upload_id)
    if upload.status is not UploadStatus.PENDING or upload.s3_upload_id is None:
        return UploadState(upload)
    try:
        parts = await resources.storage.list_parts(upload.bucket, upload.object_key, upload_id=upload.s3_upload_id)
    except ObjectMissing:
        # The upload was completed or aborted in the meantime. If the store lost it, completing the session reports
        # that.
        return UploadState(await load_session(resources, workspace_id, upload_id))
    return UploadState(upload, tuple(parts), find_missing(upload, parts))


async def presign_parts(
    resources: Resources, workspace_id: UUID, upload_id: UUID, numbers: Sequence[int]
) -> dict[int, str]:
    """Return presigned URLs for sending these parts directly to the store, keyed by part number.

    Raises:
        NotFound, UploadNotPending: there is no such open session.
        PartNumberOutOfRange: the file has no such part.
    """
    upload, s3_upload_id = require_pending(await load_session(resources, workspace_id, upload_id))
    for number in numbers:
        check_part_number(upload, number)
    return {
        number: await resources.storage.presign_part(
            upload.bucket,
            upload.object_key,
            upload_id=s3_upload_id,
            number=number,
            size_bytes=upload.size_of_part(number),
        )
        for number in numbers
    }


async def abort_session(resources: Resources, workspace_id: UUID, upload_id: UUID) -> None:
    """Abort a pending session and remove its parts; does nothing if it was aborted or has expired.

    Raises:
        NotFound: there is no such session.
        UploadNotPending: it is being completed or has already been completed.
    """
    upload = await load_session(resources, workspace_id, upload_id)
    async with resources.pool.acquire() as conn:
        closed = await upload_sessions.close_upload(
            conn, workspace_id, upload_id, status=UploadStatus.ABORTED, among=(UploadStatus.PENDING,)
        )
        if not closed:
            now = await upload_sessions.select_upload(conn, workspace_id, upload_id)
            if now is not None and now.status in {UploadStatus.COMPLETING, UploadStatus.COMPLETED}:
                raise UploadNotPending(f"The upload is {now.status}.")
            return
    UPLOADS.labels(upload.api, UploadStatus.ABORTED).inc()
    try:
        await clean_upload(resources, upload)
    except Exception as error:  # noqa: BLE001 - the session is aborted; the sweeper retries the cleanup
        log.warning("upload_not_cleaned", upload_id=upload.id, error=error)


def require_pending(upload: Upload) -> tuple[Upload, str]:
    """Return the session and its upload id in the store, provided that parts can be sent.

    Raises:
        UploadNotPending: the session has ended or is being completed.
    """
    if upload.status is not UploadStatus.PENDING or upload.s3_upload_id is None:
        raise UploadNotPending(f"The upload is {upload.status}.")
    return upload, upload.s3_upload_id


def check_part_number(upload: Upload, number: int) -> None:
    """Check that the file has a part with this number.

    Raises:
        PartNumberOutOfRange: there is no such part.
    """
    if not 1 <= number <= upload.part_count:
        raise PartNumberOutOfRange(f"The file has parts 1 to {upload.part_count}; there is no part {number}.")


def find_missing(upload: Upload, parts: Sequence[StoredPart]) -> tuple[int, ...]:
    """Return the numbers of the parts that are missing from the store or have the wrong size."""
    sizes = {part.number: part.size_bytes for part in parts}
    return tuple(
        number for number in range(1, upload.part_count + 1) if sizes.get(number) != upload.size_of_part(number)
    )


async def open_in_store(resources: Resources, upload: Upload) -> Upload:
    """Create the multipart upload of an inserted session, and return the session with its upload id in the store."""
    try:
        s3_upload_id = await resources.storage.create_multipart(
            upload.bucket, upload.object_key, mime_type=upload.mime_type
        )
        async with resources.pool.acquire() as conn:
            await upload_sessions.update_s3_upload_id(conn, upload.workspace_id, upload.id, s3_upload_id=s3_upload_id)
    except BaseException:
        await asyncio.shield(abandon(resources, upload))
        raise
    return await load_session(resources, upload.workspace_id, upload.id)

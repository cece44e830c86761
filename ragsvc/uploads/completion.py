"""Completes a session exactly once, however often and by however many it is asked, and whoever dies half-way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn

import structlog

from ragsvc.db import documents, upload_sessions
from ragsvc.domain.uploads import UploadStatus
from ragsvc.errors import NotFound, PartsMissing, UploadNotPending, WorkError
from ragsvc.storage.errors import ObjectMissing, PartsRefused
from ragsvc.telemetry.metrics import UPLOAD_BYTES, UPLOADS
from ragsvc.uploads.registration import pin_collection, register_upload
from ragsvc.uploads.sessions import find_missing, load_session
from ragsvc.uploads.tails import remove_tail
from ragsvc.uploads.token_sessions import learn_size

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.domain.documents import Document
    from ragsvc.domain.uploads import Upload
    from ragsvc.resources import Resources
    from ragsvc.storage.objects import StoredObject, StoredPart

# Who completes is silent for no longer, or has died; joining 10,000 parts takes a store a while.
COMPLETING_LEASE_S = 60.0
# Another's completion is looked at so often.
POLL_S = 0.1

log = structlog.get_logger(__name__)


async def complete_session(resources: Resources, workspace_id: UUID, upload_id: UUID) -> Document:
    """Make the file, its document and its job, and return the document; the same one every time.

    Raises:
        NotFound: there is no such session, or its document is gone again.
        PartsMissing: with the parts that are still to be sent.
        PartSizeMismatch, TooLarge, QuotaExceeded: of a session whose sizes were not known.
        UploadNotPending: it was aborted, expired or failed.
        TransientFailure, OutageFailure: the store failed; ask again, and it is settled what it did.
    """
    upload = await learn_size(resources, await load_session(resources, workspace_id, upload_id))
    while not await _claim(resources, upload):
        upload = await load_session(resources, workspace_id, upload_id)
        match upload.status:
            case UploadStatus.COMPLETED:
                return await _load_document(resources, upload)
            case UploadStatus.PENDING | UploadStatus.COMPLETING:
                # Another does it: there is one effect, and one answer.
                await asyncio.sleep(POLL_S)
            case _:
                raise UploadNotPending(f"The upload is {upload.status}.")
    return await finish_session(resources, upload)


async def complete_stalled(resources: Resources, upload: Upload) -> None:
    """Finish what a process that died had begun."""
    if not await _claim(resources, upload):
        return
    try:
        await finish_session(resources, upload)
    except (PartsMissing, UploadNotPending, NotFound) as settled:
        log.info("upload_settled", upload_id=upload.id, outcome=type(settled).__name__)
    except WorkError as error:
        log.warning("upload_not_settled", upload_id=upload.id, error=error.detail)


async def finish_session(resources: Resources, upload: Upload) -> Document:
    """Complete a session that was taken for it; raises like `complete_session`."""
    try:
        stored = await _join_parts(resources, upload)
        document = await _register(resources, upload, stored)
    except (PartsMissing, UploadNotPending):
        raise
    except BaseException:
        # What the store did is not known: whoever asks next finds out.
        await asyncio.shield(_release(resources, upload))
        raise
    UPLOADS.labels(upload.api, UploadStatus.COMPLETED).inc()
    UPLOAD_BYTES.labels(upload.api).inc(stored.size_bytes)
    log.info("upload_completed", upload_id=upload.id, document_id=document.id, size_bytes=stored.size_bytes)
    return document


async def _claim(resources: Resources, upload: Upload) -> bool:
    async with resources.pool.acquire() as conn:
        return await upload_sessions.take_completing(conn, upload.workspace_id, upload.id, lease_s=COMPLETING_LEASE_S)


async def _join_parts(resources: Resources, upload: Upload) -> StoredObject:
    """Have the store make the parts one object, unless it did so already."""
    try:
        parts = await resources.storage.list_parts(
            upload.bucket, upload.object_key, upload_id=upload.s3_upload_id or ""
        )
    except ObjectMissing:
        return await _load_joined(resources, upload)
    missing = find_missing(upload, parts)
    if missing:
        await _reopen(resources, upload)
        raise PartsMissing(missing=missing)
    return await _join(resources, upload, parts)


async def _join(resources: Resources, upload: Upload, parts: list[StoredPart]) -> StoredObject:
    # All of it stands in a part by now; later nothing but the file would be looked at.
    await remove_tail(resources, upload)
    wanted = [part for part in parts if part.number <= upload.part_count]
    try:
        await resources.storage.complete_multipart(
            upload.bucket, upload.object_key, upload_id=upload.s3_upload_id or "", parts=wanted
        )
    except PartsRefused:
        # A part was replaced since it was listed.
        await _reopen(resources, upload)
        raise PartsMissing(missing=()) from None
    except ObjectMissing:
        return await _load_joined(resources, upload)
    return await _load_joined(resources, upload)


async def _load_joined(resources: Resources, upload: Upload) -> StoredObject:
    """Return the object of a session whose parts the store does not list any more."""
    try:
        stored = await resources.storage.head_object(upload.bucket, upload.object_key)
    except ObjectMissing:
        await _fail(resources, upload, "upload_lost", "The store has neither the parts nor the file.")
    if stored.size_bytes != upload.size_bytes:
        message = f"The store's file has {stored.size_bytes} bytes, not {upload.size_bytes}."
        await _fail(resources, upload, "size_mismatch", message)
    return stored


async def _fail(resources: Resources, upload: Upload, code: str, message: str) -> NoReturn:
    async with resources.pool.acquire() as conn:
        await upload_sessions.close_upload(
            conn,
            upload.workspace_id,
            upload.id,
            status=UploadStatus.FAILED,
            error={"code": code, "message": message},
            among=(UploadStatus.COMPLETING,),
        )
    UPLOADS.labels(upload.api, UploadStatus.FAILED).inc()
    log.warning("upload_failed", upload_id=upload.id, code=code)
    raise UploadNotPending(message)


async def _register(resources: Resources, upload: Upload, stored: StoredObject) -> Document:
    if upload.collection_id is None:
        raise NotFound
    try:
        async with resources.pool.acquire() as conn, conn.transaction():
            pinned = await pin_collection(conn, upload.workspace_id, upload.collection_id)
            document, job = await register_upload(
                conn,
                resources,
                upload,
                pinned=pinned,
                size_bytes=stored.size_bytes,
                sha256=upload.sha256,
                etag=stored.etag,
                attributes=upload.attributes,
            )
    except NotFound:
        current = await load_session(resources, upload.workspace_id, upload.id)
        if current.status is UploadStatus.COMPLETED:
            return await _load_document(resources, current)
        await _fail(resources, upload, "collection_gone", "The collection was deleted meanwhile.")
    await resources.notifier.notify(job)
    return document


async def _load_document(resources: Resources, upload: Upload) -> Document:
    if upload.document_id is None:
        raise NotFound
    async with resources.pool.acquire() as conn:
        document = await documents.select_document(conn, upload.workspace_id, upload.document_id)
    if document is None:
        raise NotFound
    return document


async def _reopen(resources: Resources, upload: Upload) -> None:
    async with resources.pool.acquire() as conn:
        await upload_sessions.reopen_upload(conn, upload.workspace_id, upload.id)


async def _release(resources: Resources, upload: Upload) -> None:
    try:
        async with resources.pool.acquire() as conn:
            await upload_sessions.release_completing(conn, upload.workspace_id, upload.id)
    except Exception as error:  # noqa: BLE001 - its time runs out by itself
        log.warning("upload_not_released", upload_id=upload.id, error=error)

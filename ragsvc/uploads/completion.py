"""Completes a session exactly once, despite concurrent requests, retries and processes that die midway."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn

import structlog

from ragsvc.db import documents, upload_sessions
from ragsvc.domain.uploads import UploadStatus
from ragsvc.errors.requests import NotFound, PartsMissing, Unauthorized, UploadNotPending
from ragsvc.errors.work import WorkError
from ragsvc.storage.errors import ObjectMissing, PartsRefused
from ragsvc.telemetry.metrics import UPLOAD_BYTES, UPLOADS
from ragsvc.uploads.registration import pin_collection, register_upload
from ragsvc.uploads.sessions import find_missing, load_session
from ragsvc.uploads.tails import remove_tails
from ragsvc.uploads.token_sessions import learn_size

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.domain.documents import Document
    from ragsvc.domain.uploads import Upload
    from ragsvc.resources import Resources
    from ragsvc.storage.objects import StoredObject, StoredPart

# A process that does not finish within this time is presumed dead. The time is generous because a store can take a
# while to join 10,000 parts.
COMPLETING_LEASE_S = 60.0
# How often to check whether another request has finished completing the session.
POLL_S = 0.1

log = structlog.get_logger(__name__)


async def complete_session(resources: Resources, workspace_id: UUID, upload_id: UUID) -> Document:
    """Create the file, its document and its job, and return the document; repeated calls return the same document.

    Raises:
        NotFound: there is no such session, or its document has been deleted.
        PartsMissing: some parts have not been sent yet; the error lists them.
        PartSizeMismatch, TooLarge, QuotaExceeded: only for a session whose size was not declared.
        UploadNotPending: the session was aborted, expired or failed.
        TransientFailure, OutageFailure: the store failed; a retry determines whether it joined the parts.
    """
    upload = await learn_size(resources, await load_session(resources, workspace_id, upload_id))
    while not await _claim(resources, upload):
        upload = await load_session(resources, workspace_id, upload_id)
        match upload.status:
            case UploadStatus.COMPLETED:
                return await _load_document(resources, upload)
            case UploadStatus.PENDING | UploadStatus.COMPLETING:
                # Another request is completing it: wait for its document.
                await asyncio.sleep(POLL_S)
            case _:
                raise UploadNotPending(f"The upload is {upload.status}.")
    return await finish_session(resources, upload)


async def complete_stalled(resources: Resources, upload: Upload) -> None:
    """Finish a completion whose process died."""
    if not await _claim(resources, upload):
        return
    try:
        await finish_session(resources, upload)
    except (PartsMissing, UploadNotPending, NotFound, Unauthorized) as settled:
        log.info("upload_settled", upload_id=upload.id, outcome=type(settled).__name__)
    except WorkError as error:
        log.warning("upload_not_settled", upload_id=upload.id, error=error.detail)


async def finish_session(resources: Resources, upload: Upload) -> Document:
    """Complete a session that this process has claimed; raises the same errors as `complete_session`."""
    try:
        stored = await _join_parts(resources, upload)
        document = await _register(resources, upload, stored)
    except (PartsMissing, UploadNotPending):
        raise
    except BaseException:
        # It is unknown whether the store joined the parts; the next attempt finds out.
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
    """Have the store join the parts into one object, unless it already has."""
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
    # All bytes are in parts by now, so remove the tails; nothing would once the session is completed.
    await remove_tails(resources, upload)
    wanted = [part for part in parts if part.number <= upload.part_count]
    try:
        await resources.storage.complete_multipart(
            upload.bucket, upload.object_key, upload_id=upload.s3_upload_id or "", parts=wanted
        )
    except PartsRefused:
        # A part was replaced after it was listed.
        await _reopen(resources, upload)
        raise PartsMissing(missing=()) from None
    except ObjectMissing:
        return await _load_joined(resources, upload)
    return await _load_joined(resources, upload)


async def _load_joined(resources: Resources, upload: Upload) -> StoredObject:
    """Return the object of a session whose parts the store no longer lists."""
    try:
        stored = await resources.storage.head_object(upload.bucket, upload.object_key)
    except ObjectMissing:
        await _fail(resources, upload, "upload_lost", "The object store has neither the parts nor the file.")
    if stored.size_bytes != upload.size_bytes:
        message = f"The stored file has {stored.size_bytes} bytes instead of {upload.size_bytes}."
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
        await _fail(resources, upload, "collection_gone", "The collection was deleted during the upload.")
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
    except Exception as error:  # noqa: BLE001 - the lease expires anyway
        log.warning("upload_not_released", upload_id=upload.id, error=error)

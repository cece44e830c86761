"""Takes a file in one request: streamed to the store in parts, then file, document and job in one transaction."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from ragsvc.db import collections, documents, files, upload_sessions, workspaces
from ragsvc.errors import DocumentExists, EmptyFile, NotFound, QuotaExceeded, TooLarge
from ragsvc.jobs import lifecycle
from ragsvc.models.ids import new_id
from ragsvc.models.jobs import Queue, SubjectKind
from ragsvc.uploads.expiry import clean_upload
from ragsvc.uploads.parts import PartWriter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from uuid import UUID

    from ragsvc.db.pool import Connection
    from ragsvc.models.documents import Document, Upload
    from ragsvc.models.jobs import Job
    from ragsvc.models.workspaces import Collection, Workspace
    from ragsvc.resources import Resources
    from ragsvc.uploads.parts import StoredObject

log = structlog.get_logger(__name__)


async def receive_document(
    resources: Resources,
    workspace: Workspace,
    source: AsyncIterator[bytes],
    *,
    filename: str,
    mime_type: str,
    collection_id: UUID | None,
    attributes: dict[str, object],
    late_details: Callable[[], tuple[UUID | None, dict[str, object]]] | None = None,
) -> Document:
    """Store the file and queue its ingestion; at most one part of it is in memory at a time.

    `late_details` is asked for collection and attributes once the source has ended: in a form they may follow the file.

    Raises:
        EmptyFile, TooLarge, QuotaExceeded: and nothing of it is left.
        NotFound: there is no such collection.
    """
    async with resources.pool.acquire() as conn:
        collection = await _find_collection(conn, workspace.id, collection_id)
        await _check_quota(conn, workspace, added_bytes=1)
    first = await _read_first(source)
    upload = await _open_upload(resources, workspace, filename=filename, mime_type=mime_type)
    try:
        stored = await _store(resources, upload, first, source)
        if late_details is not None:
            collection_id, attributes = late_details()
            async with resources.pool.acquire() as conn:
                collection = await _find_collection(conn, workspace.id, collection_id)
        document, job = await _register(
            resources, workspace, upload, stored=stored, collection=collection, attributes=attributes
        )
    except BaseException:
        # A client that leaves cancels this task; what it sent is removed all the same.
        await asyncio.shield(_abandon(resources, upload))
        raise
    await resources.bell.ring(job)
    log.info("document_accepted", document_id=document.id.hex, size_bytes=stored.size_bytes)
    return document


async def attach_file(
    resources: Resources,
    workspace: Workspace,
    file_id: UUID,
    *,
    collection_id: UUID,
    attributes: dict[str, object],
) -> Document:
    """Make a stored file a document of another collection too.

    Raises:
        NotFound: there is no such file or collection.
        DocumentExists: the file already is a document of this collection.
    """
    async with resources.pool.acquire() as conn, conn.transaction():
        file = await files.lock_file(conn, workspace.id, file_id)
        collection = await collections.pin_collection(conn, workspace.id, collection_id)
        if file is None or collection is None:
            raise NotFound
        document, job = await _add_document(
            conn, resources, workspace.id, collection=collection, file_id=file.id, attributes=attributes
        )
    await resources.bell.ring(job)
    return document


async def _read_first(source: AsyncIterator[bytes]) -> bytes:
    """Return the first bytes, so that for an empty file nothing is begun."""
    async for block in source:
        if block:
            return block
    raise EmptyFile


async def _find_collection(conn: Connection, workspace_id: UUID, collection_id: UUID | None) -> Collection:
    if collection_id is None:
        found = await collections.select_default_collection(conn, workspace_id)
    else:
        found = await collections.select_collection(conn, workspace_id, collection_id)
    if found is None:
        raise NotFound
    return found


async def _check_quota(conn: Connection, workspace: Workspace, *, added_bytes: int) -> None:
    if workspace.quota_bytes is None:
        return
    usage = await documents.select_usage(conn, workspace.id)
    if usage.storage_bytes + added_bytes > workspace.quota_bytes:
        raise QuotaExceeded(f"The workspace may hold {workspace.quota_bytes} bytes and holds {usage.storage_bytes}.")


async def _open_upload(resources: Resources, workspace: Workspace, *, filename: str, mime_type: str) -> Upload:
    """Write the session down before the store hears of it, so that the sweeper knows what a crash leaves."""
    upload_id = new_id()
    async with resources.pool.acquire() as conn:
        await upload_sessions.insert_upload(
            conn,
            workspace.id,
            upload_id,
            object_key=f"objects/{upload_id.hex}",
            filename=filename,
            mime_type=mime_type,
            expires_s=resources.settings.upload_expires_s,
        )
        upload = await upload_sessions.select_upload(conn, workspace.id, upload_id)
    if upload is None:
        raise NotFound
    return upload


async def _store(resources: Resources, upload: Upload, first: bytes, source: AsyncIterator[bytes]) -> StoredObject:
    limit_bytes = resources.settings.max_document_bytes
    writer = PartWriter(resources, upload)
    await writer.begin()
    await writer.write(first)
    _check_size(writer.size_bytes, limit_bytes)
    async for block in source:
        await writer.write(block)
        _check_size(writer.size_bytes, limit_bytes)
    return await writer.finish()


def _check_size(size_bytes: int, limit_bytes: int) -> None:
    if size_bytes > limit_bytes:
        raise TooLarge(f"A file in one request may have {limit_bytes} bytes.")


async def _register(
    resources: Resources,
    workspace: Workspace,
    upload: Upload,
    *,
    stored: StoredObject,
    collection: Collection,
    attributes: dict[str, object],
) -> tuple[Document, Job]:
    file_id = new_id()
    async with resources.pool.acquire() as conn, conn.transaction():
        if workspace.quota_bytes is not None:
            # Uploads that end at the same moment are counted one after the other.
            await workspaces.lock_workspace(conn, workspace.id)
            await _check_quota(conn, workspace, added_bytes=stored.size_bytes)
        pinned = await collections.pin_collection(conn, workspace.id, collection.id)
        if pinned is None or not await upload_sessions.close_upload(conn, workspace.id, upload.id, status="completed"):
            raise NotFound
        await files.insert_file(
            conn,
            workspace.id,
            file_id,
            upload_id=upload.id,
            object_key=upload.object_key,
            filename=upload.filename,
            mime_type=upload.mime_type,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            etag=stored.etag,
        )
        return await _add_document(
            conn, resources, workspace.id, collection=pinned, file_id=file_id, attributes=attributes
        )


async def _add_document(
    conn: Connection,
    resources: Resources,
    workspace_id: UUID,
    *,
    collection: Collection,
    file_id: UUID,
    attributes: dict[str, object],
) -> tuple[Document, Job]:
    document_id = new_id()
    added = await documents.insert_document(
        conn, workspace_id, document_id, collection_id=collection.id, file_id=file_id, attributes=attributes
    )
    if not added:
        raise DocumentExists
    job = await lifecycle.enqueue(
        conn,
        resources.settings,
        workspace_id=workspace_id,
        queue=Queue.INGESTION,
        subject_kind=SubjectKind.DOCUMENT,
        subject_id=document_id,
        payload={"file_id": str(file_id)},
    )
    document = await documents.select_document(conn, workspace_id, document_id)
    if document is None:
        raise NotFound
    return document, job


async def _abandon(resources: Resources, upload: Upload) -> None:
    """Remove what the store holds, unless the commit went through and only its answer was lost."""
    try:
        async with resources.pool.acquire() as conn:
            if not await upload_sessions.close_upload(conn, upload.workspace_id, upload.id, status="aborted"):
                return
        await clean_upload(resources, upload)
    except Exception as error:  # noqa: BLE001 - the sweeper does it later; the caller's own error is the one to tell
        log.warning("upload_not_cleaned", upload_id=upload.id.hex, error=str(error) or type(error).__name__)

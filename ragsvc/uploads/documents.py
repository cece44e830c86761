"""Receives a file in one request: streams it to the store, then inserts file, document and job in one transaction."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from ragsvc.db import files, upload_sessions, workspaces
from ragsvc.domain.ids import new_id
from ragsvc.domain.uploads import UploadStatus
from ragsvc.errors.requests import EmptyFile, NotFound, TooLarge
from ragsvc.telemetry.metrics import UPLOAD_BYTES, UPLOADS
from ragsvc.uploads.cleaning import abandon
from ragsvc.uploads.parts import PartWriter
from ragsvc.uploads.quotas import check_quota, claim_quota
from ragsvc.uploads.registration import (
    add_document,
    find_collection,
    pin_collection,
    register_replacement,
    register_upload,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from uuid import UUID

    from ragsvc.domain.documents import Document
    from ragsvc.domain.jobs import Job
    from ragsvc.domain.uploads import Upload
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources
    from ragsvc.uploads.parts import WrittenObject

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
    late_details: Callable[[bytes], Awaitable[tuple[UUID | None, dict[str, object]]]] | None = None,
    limit_bytes: int | None = None,
    document_id: UUID | None = None,
    announced_bytes: int | None = None,
) -> Document:
    """Store the file and queue its ingestion; at most two of its parts are in memory, within UPLOAD_BUFFER_BYTES.

    Once the source has ended, `late_details` is called with the file's sha256 and returns the collection and
    attributes. It is called this late because in a form these fields can follow the file. `announced_bytes` is the
    expected size, if known, so that a small file reserves little memory.

    Raises:
        EmptyFile, TooLarge, QuotaExceeded, Overloaded, RequestTimeout: the file was not accepted; nothing is stored.
        NotFound: there is no such collection.
    """

    async def register(upload: Upload, stored: WrittenObject) -> tuple[Document, Job]:
        into, described = await late_details(stored.sha256) if late_details else (collection_id, attributes)
        return await _register(
            resources,
            workspace,
            upload,
            stored=stored,
            collection_id=into,
            attributes=described,
            document_id=document_id,
        )

    async with resources.pool.acquire() as conn:
        # Reject an unknown collection before reading the body; it is pinned when the file is registered.
        await find_collection(conn, workspace.id, collection_id)
    return await _receive(
        resources,
        workspace,
        source,
        register,
        filename=filename,
        mime_type=mime_type,
        limit_bytes=limit_bytes,
        announced_bytes=announced_bytes,
    )


async def _register(
    resources: Resources,
    workspace: Workspace,
    upload: Upload,
    *,
    stored: WrittenObject,
    collection_id: UUID | None,
    attributes: dict[str, object],
    document_id: UUID | None,
) -> tuple[Document, Job]:
    async with resources.pool.acquire() as conn, conn.transaction():
        await claim_quota(conn, workspace, added_bytes=stored.size_bytes)
        pinned = await pin_collection(conn, workspace.id, collection_id)
        return await register_upload(
            conn,
            resources,
            upload,
            pinned=pinned,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            etag=stored.etag,
            attributes=attributes,
            document_id=document_id,
        )


async def receive_content(
    resources: Resources,
    workspace: Workspace,
    document_id: UUID,
    source: AsyncIterator[bytes],
    *,
    filename: str,
    mime_type: str,
    late_attributes: Callable[[], dict[str, object] | None],
    announced_bytes: int | None = None,
) -> Document:
    """Store a new file for a document and queue its ingestion; until that is done, searches use the current version.

    Any active ingestion of the document is cancelled. `late_attributes` is called once the source has ended; its
    result is applied with the new version, and None leaves the attributes unchanged.

    Raises:
        EmptyFile, TooLarge, QuotaExceeded, Overloaded, RequestTimeout: the file was not accepted; nothing is stored.
        NotFound: there is no such document.
        DocumentDeleting: the document is being deleted.
    """

    async def register(upload: Upload, stored: WrittenObject) -> tuple[Document, Job]:
        attributes = late_attributes()
        async with resources.pool.acquire() as conn, conn.transaction():
            await claim_quota(conn, workspace, added_bytes=stored.size_bytes)
            return await register_replacement(
                conn,
                resources,
                upload,
                document_id,
                size_bytes=stored.size_bytes,
                sha256=stored.sha256,
                etag=stored.etag,
                attributes=attributes,
            )

    return await _receive(
        resources,
        workspace,
        source,
        register,
        filename=filename,
        mime_type=mime_type,
        announced_bytes=announced_bytes,
    )


async def _receive(
    resources: Resources,
    workspace: Workspace,
    source: AsyncIterator[bytes],
    register: Callable[[Upload, WrittenObject], Awaitable[tuple[Document, Job]]],
    *,
    filename: str,
    mime_type: str,
    announced_bytes: int | None,
    limit_bytes: int | None = None,
) -> Document:
    async with resources.pool.acquire() as conn:
        await check_quota(conn, workspace, added_bytes=1)
    max_bytes = resources.settings.api.max_document_bytes
    first = await _read_first(source)
    upload = await _open_upload(resources, workspace, filename=filename, mime_type=mime_type)
    try:
        writer = PartWriter(resources, upload, announced_bytes=announced_bytes)
        stored = await _store(writer, first, source, limit_bytes=min(limit_bytes or max_bytes, max_bytes))
        document, job = await register(upload, stored)
    except BaseException:
        # A client that disconnects cancels this task; the shield lets the cleanup finish.
        await asyncio.shield(abandon(resources, upload))
        raise
    await resources.notifier.notify(job)
    UPLOADS.labels(upload.api, UploadStatus.COMPLETED).inc()
    UPLOAD_BYTES.labels(upload.api).inc(stored.size_bytes)
    log.info("document_accepted", document_id=document.id, size_bytes=stored.size_bytes)
    return document


async def attach_file(
    resources: Resources,
    workspace: Workspace,
    file_id: UUID,
    *,
    collection_id: UUID,
    attributes: dict[str, object],
    document_id: UUID | None = None,
) -> Document:
    """Add a document for a stored file to another collection.

    Raises:
        NotFound: there is no such file or collection.
        DocumentExists: the collection already has a document with this file.
    """
    async with resources.pool.acquire() as conn, conn.transaction():
        file = await files.lock_file(conn, workspace.id, file_id)
        if file is None:
            raise NotFound(kind="file")
        pinned = await pin_collection(conn, workspace.id, collection_id)
        document, job = await add_document(
            conn,
            resources,
            workspace.id,
            document_id or new_id(),
            pinned=pinned,
            file_id=file.id,
            attributes=attributes,
        )
    await resources.notifier.notify(job)
    return document


async def _read_first(source: AsyncIterator[bytes]) -> bytes:
    """Return the first non-empty block, so that no session is opened for an empty file."""
    async for block in source:
        if block:
            return block
    raise EmptyFile


async def _open_upload(resources: Resources, workspace: Workspace, *, filename: str, mime_type: str) -> Upload:
    """Insert the session before anything is sent to the store, so that the sweeper can clean up after a crash."""
    upload_id = new_id()
    async with resources.pool.acquire() as conn, conn.transaction():
        await workspaces.pin_workspace(conn, workspace.id)
        return await upload_sessions.insert_upload(
            conn,
            workspace.id,
            upload_id,
            object_key=workspace.object_key(upload_id),
            filename=filename,
            mime_type=mime_type,
            expires_s=resources.settings.api.upload_expires_s,
        )


async def _store(writer: PartWriter, first: bytes, source: AsyncIterator[bytes], *, limit_bytes: int) -> WrittenObject:
    try:
        await writer.begin()
        async with writer.abort_when_slow():
            await writer.write(first)
            _check_size(writer.size_bytes, limit_bytes)
            async for block in source:
                await writer.write(block)
                _check_size(writer.size_bytes, limit_bytes)
        return await writer.finish()
    finally:
        await writer.close()


def _check_size(size_bytes: int, limit_bytes: int) -> None:
    if size_bytes > limit_bytes:
        raise TooLarge(f"A file sent in one request can have at most {limit_bytes} bytes.")

"""Registers a stored object as the file of a new or existing document and queues its ingestion, in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.db import api_keys, collections, documents, files, jobs, upload_sessions, workspaces
from ragsvc.domain.collections import Chunking
from ragsvc.domain.documents import DocumentStatus
from ragsvc.domain.ids import new_id
from ragsvc.domain.jobs import Queue, SubjectKind
from ragsvc.domain.uploads import UploadStatus
from ragsvc.errors.requests import DocumentDeleting, DocumentExists, NotFound, Unauthorized
from ragsvc.jobs import lifecycle, subjects
from ragsvc.shares import SERVICE, holder_now

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.collections import Collection
    from ragsvc.domain.documents import Document
    from ragsvc.domain.jobs import Job
    from ragsvc.domain.uploads import Upload
    from ragsvc.resources import Resources


async def find_collection(conn: Connection, workspace_id: UUID, collection_id: UUID | None) -> Collection:
    """Return the collection, or the workspace's default collection for None.

    Raises:
        NotFound: there is no such collection.
    """
    if collection_id is None:
        found = await collections.select_default_collection(conn, workspace_id)
    else:
        found = await collections.select_collection(conn, workspace_id, collection_id)
    if found is None:
        raise NotFound(kind="collection")
    return found


async def pin_collection(conn: Connection, workspace_id: UUID, collection_id: UUID | None) -> Collection:
    """Return the collection like `find_collection`; block its deletion and the workspace's until the transaction ends.

    Raises:
        NotFound: there is no such collection.
        Unauthorized: the workspace has been deleted.
    """
    await workspaces.pin_workspace(conn, workspace_id)
    if collection_id is None:
        pinned = await collections.pin_default_collection(conn, workspace_id)
    else:
        pinned = await collections.pin_collection(conn, workspace_id, collection_id)
    if pinned is None:
        raise NotFound(kind="collection")
    return pinned


async def register_upload(
    conn: Connection,
    resources: Resources,
    upload: Upload,
    *,
    pinned: Collection,
    size_bytes: int,
    sha256: bytes | None,
    etag: str,
    attributes: dict[str, object],
    document_id: UUID | None = None,
) -> tuple[Document, Job]:
    """Complete the session: add its file, a document in the pinned collection, and an ingestion job.

    Raises:
        NotFound: the session has ended.
        Unauthorized: the key was revoked.
    """
    document_id = document_id or new_id()
    file_id = await _add_file(conn, upload, document_id, size_bytes=size_bytes, sha256=sha256, etag=etag)
    return await add_document(
        conn,
        resources,
        upload.workspace_id,
        document_id,
        pinned=pinned,
        file_id=file_id,
        attributes=attributes,
        chunking=upload.chunking,
    )


async def register_replacement(
    conn: Connection,
    resources: Resources,
    upload: Upload,
    document_id: UUID,
    *,
    size_bytes: int,
    sha256: bytes | None,
    etag: str,
    attributes: dict[str, object] | None,
) -> tuple[Document, Job]:
    """Complete the session: add its file as the document's next version, and cancel any active ingestion.

    Raises:
        NotFound: the session has ended, or the document was deleted.
        DocumentDeleting: the document is being deleted.
        Unauthorized: the key was revoked, or the workspace has been deleted.
    """
    workspace_id = upload.workspace_id
    await workspaces.pin_workspace(conn, workspace_id)
    locked = await documents.lock_document(conn, workspace_id, document_id)
    before = await documents.select_document(conn, workspace_id, document_id)
    if locked is None or before is None:
        raise NotFound
    if before.status is DocumentStatus.DELETING or not await collections.pin_collection(
        conn, workspace_id, before.collection_id
    ):
        raise DocumentDeleting
    await jobs.cancel_active_jobs(
        conn, workspace_id, queue=Queue.INGESTION, subject_kind=SubjectKind.DOCUMENT, subject_id=document_id
    )
    file_id = await _add_file(conn, upload, document_id, size_bytes=size_bytes, sha256=sha256, etag=etag)
    await documents.update_next_file(conn, workspace_id, document_id, file_id=file_id, attributes=attributes)
    given_up = before.file_id if before.version == 0 else before.pending_file_id
    if given_up is not None:
        await files.release_file(conn, workspace_id, given_up, document_id=document_id)
    job = await lifecycle.enqueue_ingestion(
        conn, resources.settings, workspace_id=workspace_id, document_id=document_id, file_id=file_id
    )
    await subjects.show_queued(conn, job)
    document = await documents.select_document(conn, workspace_id, document_id)
    if document is None:
        raise NotFound
    return document, job


async def _add_file(
    conn: Connection, upload: Upload, document_id: UUID, *, size_bytes: int, sha256: bytes | None, etag: str
) -> UUID:
    file_id = new_id()
    await _require_valid_key(conn, upload.workspace_id)
    if not await upload_sessions.close_upload(
        conn, upload.workspace_id, upload.id, status=UploadStatus.COMPLETED, document_id=document_id
    ):
        raise NotFound
    await files.insert_file(
        conn,
        upload.workspace_id,
        file_id,
        upload_id=upload.id,
        object_key=upload.object_key,
        filename=upload.filename,
        mime_type=upload.mime_type,
        size_bytes=size_bytes,
        sha256=sha256,
        etag=etag,
    )
    return file_id


async def _require_valid_key(conn: Connection, workspace_id: UUID) -> None:
    """Check that the key for which the file was received has not been revoked meanwhile.

    Raises:
        Unauthorized: it has been revoked.
    """
    holder = holder_now.get()
    if holder != SERVICE and not await api_keys.is_key_valid(conn, workspace_id, holder.key_id):
        raise Unauthorized


async def add_document(
    conn: Connection,
    resources: Resources,
    workspace_id: UUID,
    document_id: UUID,
    *,
    pinned: Collection,
    file_id: UUID,
    attributes: dict[str, object],
    chunking: dict[str, int] | None = None,
) -> tuple[Document, Job]:
    """Add a document for a stored file and queue its ingestion; notify the workers once this is committed.

    Raises:
        DocumentExists: the collection already has a document of this file.
    """
    document = await documents.insert_document(
        conn, workspace_id, document_id, collection_id=pinned.id, file_id=file_id, attributes=attributes
    )
    if document is None:
        raise DocumentExists
    job = await lifecycle.enqueue_ingestion(
        conn,
        resources.settings,
        workspace_id=workspace_id,
        document_id=document_id,
        file_id=file_id,
        chunking=Chunking(**chunking) if chunking else None,
    )
    return document, job

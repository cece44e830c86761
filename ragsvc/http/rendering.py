"""Answers made of our dataclasses: orjson in UTF-8, times in RFC 3339 and UTC, public ids."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson
from aiohttp import web

from ragsvc.domain.ids import format_id
from ragsvc.domain.jobs import SubjectKind, format_subject_id
from ragsvc.domain.uploads import UploadStatus
from ragsvc.media_types.content_types import bare_type

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from ragsvc.domain.chunks import StoredChunk, TextSlice
    from ragsvc.domain.deletions import Deletion
    from ragsvc.domain.documents import Document, DocumentWarning, FailureInfo, File
    from ragsvc.domain.jobs import QueueDepth, RunningJob
    from ragsvc.domain.uploads import Upload
    from ragsvc.domain.webhooks import Webhook
    from ragsvc.domain.workspaces import ApiKey, Chunking, Collection, Usage, Workspace
    from ragsvc.http.views import (
        AcceptedDeletionView,
        ChunkingView,
        ChunkView,
        CollectionView,
        DeletionView,
        DocumentDeletionView,
        DocumentView,
        DocumentWarningView,
        FailureView,
        FileView,
        KeyView,
        ListedKeyView,
        OwnWorkspaceView,
        PartView,
        QueueView,
        ReceivedPartView,
        RunningJobView,
        SubjectView,
        TextView,
        UploadStateView,
        UploadView,
        WebhookView,
        WorkspaceView,
    )
    from ragsvc.storage.objects import StoredPart
    from ragsvc.uploads.sessions import UploadState


def json_response(view: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return an answer with a view as its JSON body; answers belong to one key, so nobody may cache them."""
    return web.Response(
        body=orjson.dumps(view),
        status=status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        content_type="application/json",
    )


def render_time(moment: datetime) -> str:
    """Return a time as clients see it, such as `2026-01-31T12:00:00.000000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def render_optional_time(moment: datetime | None) -> str | None:
    """Return a time as clients see it, or None."""
    return render_time(moment) if moment else None


def render_workspace(workspace: Workspace) -> WorkspaceView:
    """Return a workspace as its operator sees it."""
    return {
        "id": format_id("ws", workspace.id),
        "name": workspace.name,
        "bucket": workspace.bucket,
        "created_at": render_time(workspace.created_at),
    }


def render_own_workspace(workspace: Workspace, usage: Usage) -> OwnWorkspaceView:
    """Return a workspace as its keys see it."""
    return {
        "id": format_id("ws", workspace.id),
        "name": workspace.name,
        "usage": {"documents": usage.documents, "chunks": usage.chunks, "storage_bytes": usage.storage_bytes},
        "quota_bytes": workspace.quota_bytes,
    }


def render_key(key: ApiKey) -> KeyView:
    """Return a key without its secret."""
    return {
        "id": format_id("key", key.id),
        "name": key.name,
        "key_prefix": key.key_prefix,
        "scopes": list(key.scopes),
        "expires_at": render_optional_time(key.expires_at),
        "created_at": render_time(key.created_at),
    }


def render_listed_key(key: ApiKey) -> ListedKeyView:
    """Return a key with what its operator wants to know of its use."""
    return {
        **render_key(key),
        "last_used_at": render_optional_time(key.last_used_at),
        "replaced_by": format_id("key", key.replaced_by) if key.replaced_by else None,
    }


def render_webhook(webhook: Webhook) -> WebhookView:
    """Return a webhook without its secret."""
    return {
        "id": format_id("hook", webhook.id),
        "url": webhook.url,
        "events": list(webhook.events),
        "created_at": render_time(webhook.created_at),
    }


def render_collection(collection: Collection) -> CollectionView:
    """Return a collection."""
    return {
        "id": format_id("col", collection.id),
        "object": "collection",
        "name": collection.name,
        "is_default": collection.is_default,
        "chunking": _render_chunking(collection.chunking),
        "metadata": collection.metadata,
        "created_at": render_time(collection.created_at),
        "updated_at": render_time(collection.updated_at),
    }


def render_failure(failure: FailureInfo | None) -> FailureView | None:
    """Return why something failed, or None."""
    if failure is None:
        return None
    return {
        "code": failure.code,
        "message": failure.message,
        "retryable": failure.retryable,
        "next_attempt_at": render_optional_time(failure.next_attempt_at),
    }


def render_document(document: Document) -> DocumentView:
    """Return a document."""
    return {
        "id": format_id("doc", document.id),
        "object": "document",
        "collection_id": format_id("col", document.collection_id),
        "file_id": format_id("file", document.file_id),
        "filename": document.filename,
        "mime_type": bare_type(document.mime_type),
        "size_bytes": document.size_bytes,
        "sha256": document.sha256.hex() if document.sha256 else None,
        "status": document.status,
        "stage": document.stage,
        "progress": round(document.progress, 4),
        "version": document.version,
        "chunk_count": document.chunk_count,
        "token_count": document.token_count,
        "attributes": document.attributes,
        "error": render_failure(document.error),
        "warnings": [_render_warning(warning) for warning in document.warnings],
        "created_at": render_time(document.created_at),
        "updated_at": render_time(document.updated_at),
    }


def _render_warning(warning: DocumentWarning) -> DocumentWarningView:
    view: DocumentWarningView = {"code": warning.code, "message": warning.message}
    if warning.pages:
        view["pages"] = list(warning.pages)
    return view


def render_file(file: File) -> FileView:
    """Return a file."""
    return {
        "id": format_id("file", file.id),
        "object": "file",
        "filename": file.filename,
        "mime_type": bare_type(file.mime_type),
        "size_bytes": file.size_bytes,
        "sha256": file.sha256.hex() if file.sha256 else None,
        "created_at": render_time(file.created_at),
    }


def render_text(text: TextSlice) -> TextView:
    """Return a part of a document's text."""
    return {
        "version": text.version,
        "start": text.start,
        "end": text.end,
        "length": text.length,
        "text": text.text,
    }


def render_chunk(chunk: StoredChunk) -> ChunkView:
    """Return a chunk."""
    return {
        "id": format_id("chunk", chunk.id),
        "ordinal": chunk.ordinal,
        "text": chunk.text,
        "content_hash": chunk.content_hash.hex(),
        "char_start": chunk.char_start,
        "char_end": chunk.char_end,
        "page_first": chunk.page_first,
        "page_last": chunk.page_last,
        "heading_path": list(chunk.heading_path),
        "token_count": chunk.token_count,
    }


def render_deletion(deletion: Deletion) -> DeletionView:
    """Return a deletion with its receipt."""
    return {
        "id": format_id("del", deletion.id),
        "subject": _render_subject(deletion.subject_kind, deletion.subject_id),
        "status": deletion.status,
        "requested_at": render_time(deletion.requested_at),
        "completed_at": render_optional_time(deletion.completed_at),
        "verified_at": render_optional_time(deletion.verified_at),
        "stores": [
            {
                "store": store.store,
                "removed": store.removed,
                "redacted": store.redacted,
                "remaining": store.remaining,
                "retained_until": render_optional_time(store.retained_until),
            }
            for store in deletion.stores
        ],
        "error": render_failure(deletion.error),
    }


def render_accepted_deletion(deletion: Deletion) -> AcceptedDeletionView:
    """Return the acknowledgement of a deletion."""
    return {"deletion_id": format_id("del", deletion.id)}


def render_document_deletion(deletion: Deletion, document_id: UUID) -> DocumentDeletionView:
    """Return the acknowledgement of a document's deletion, which may be that of its whole collection."""
    return {
        "deletion_id": format_id("del", deletion.id),
        "document_id": format_id("doc", document_id),
        "status": "deleting",
    }


def render_upload(upload: Upload) -> UploadView:
    """Return an upload session."""
    return {
        "id": format_id("upl", upload.id),
        "object": "upload",
        "status": upload.status,
        "filename": upload.filename,
        "mime_type": bare_type(upload.mime_type),
        "size_bytes": upload.size_bytes,
        "part_size_bytes": upload.part_size_bytes or 0,
        "part_count": upload.part_count,
        "collection_id": format_id("col", upload.collection_id) if upload.collection_id else None,
        "attributes": upload.attributes,
        "document_id": format_id("doc", upload.document_id) if upload.document_id else None,
        "error": {"code": upload.error["code"], "message": upload.error["message"]} if upload.error else None,
        "expires_at": render_time(upload.expires_at),
        "created_at": render_time(upload.created_at),
    }


def render_upload_state(state: UploadState) -> UploadStateView:
    """Return an upload session with its parts."""
    received = _render_received(state)
    return {
        **render_upload(state.upload),
        "received": received,
        "missing": list(state.missing),
        "received_bytes": sum(part["size_bytes"] for part in received),
    }


def _render_received(state: UploadState) -> list[ReceivedPartView]:
    """Return the store's list of parts; of a completed upload all that it was to have, since the store forgets them."""
    upload = state.upload
    if upload.status is UploadStatus.COMPLETED:
        numbers = range(1, upload.part_count + 1)
        return [{"part_number": one, "size_bytes": upload.size_of_part(one), "etag": None} for one in numbers]
    return [{"part_number": part.number, "size_bytes": part.size_bytes, "etag": part.etag} for part in state.received]


def render_part(part: StoredPart) -> PartView:
    """Return a part that the store has."""
    return {"part_number": part.number, "size_bytes": part.size_bytes, "etag": part.etag}


def render_queue(depth: QueueDepth, running: Sequence[RunningJob]) -> QueueView:
    """Return a queue with what its workers are at."""
    return {
        "queue": depth.queue,
        "queued": depth.queued,
        "ready": depth.ready,
        "running": depth.running,
        "dead": depth.dead,
        "oldest_ready_age_s": depth.oldest_ready_age_s,
        "done_per_minute": depth.done_per_minute,
        "dead_per_minute": depth.dead_per_minute,
        "paused": depth.paused,
        "reason": depth.reason,
        "paused_since": render_time(depth.state_since) if depth.paused else None,
        "next_probe_at": render_time(depth.next_probe_at) if depth.next_probe_at else None,
        "leases": [_render_running_job(job) for job in running],
    }


def _render_running_job(job: RunningJob) -> RunningJobView:
    return {
        "job_id": format_id("job", job.job_id),
        "workspace_id": format_id("ws", job.workspace_id),
        "subject": _render_subject(job.subject_kind, job.subject_id),
        "worker": job.worker,
        "stage": job.stage,
        "progress": job.progress,
        "attempts": job.attempts,
        "rescues": job.rescues,
        "running_s": job.running_s,
        "lease_left_s": job.lease_left_s,
    }


def _render_subject(kind: SubjectKind, subject_id: UUID) -> SubjectView:
    return {"kind": kind, "id": format_subject_id(kind, subject_id)}


def _render_chunking(chunking: Chunking | None) -> ChunkingView | None:
    return {"max_tokens": chunking.max_tokens, "overlap_tokens": chunking.overlap_tokens} if chunking else None

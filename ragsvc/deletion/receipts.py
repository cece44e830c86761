"""Verification of deletions: recounts every store after the removal and builds the lines of the receipt."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ragsvc.db import (
    chat_messages,
    deletion_receipts,
    embedding_spaces,
    files,
    idempotency_keys,
    leftovers,
    workspace_rows,
)
from ragsvc.domain.deletions import StoreReceipt
from ragsvc.domain.jobs import SubjectKind
from ragsvc.errors.work import TransientFailure

if TYPE_CHECKING:
    from ragsvc.domain.deletions import Deletion
    from ragsvc.domain.workspaces import Location
    from ragsvc.jobs.lease import Lease
    from ragsvc.resources import Resources

STORES = (
    "documents",
    "chunks",
    "vectors",
    "canonical_text",
    "files",
    "uploads",
    "objects",
    "chat_messages",
    "run_streams",
    "idempotent_answers",
    "jobs",
)
# Only a workspace's deletion removes these.
WORKSPACE_STORES = ("runs", "chat_sessions", "bulk_operations", "webhooks", "usage")
# Unless the whole workspace is deleted, these keep their entries without the document's words.
REDACTED = {"chat_messages", "idempotent_answers"}


async def verify_stores(
    resources: Resources, lease: Lease, deletion: Deletion, *, location: Location | None
) -> list[StoreReceipt]:
    """Verify that nothing remains in any store, and return the receipt's lines.

    Raises:
        TransientFailure: some data remains; the deletion will be retried.
    """
    async with resources.pool.acquire() as conn:
        removed = await deletion_receipts.select_removed(conn, deletion.workspace_id, deletion.id)
    remaining = await _count_remaining(resources, lease, deletion, location=location)
    if nonzero := {store: count for store, count in remaining.items() if count}:
        raise TransientFailure("deletion_incomplete", f"data remains after the deletion: {nonzero}")
    is_workspace = deletion.subject_kind is SubjectKind.WORKSPACE
    redacted = set() if is_workspace else REDACTED
    sees_versions = location is None or await resources.storage.keeps_versions(location.bucket) is not None
    receipts = [
        StoreReceipt(
            store=store,
            removed=0 if store in redacted else removed.get(store, 0),
            redacted=removed.get(store, 0) if store in redacted else 0,
            remaining=remaining.get(store, 0),
            is_counted=store != "objects" or sees_versions,
        )
        for store in (*STORES, *(WORKSPACE_STORES if is_workspace else ()))
    ]
    return [*receipts, _cache_receipt(resources, removed.get("embedding_cache", 0))]


async def _count_remaining(
    resources: Resources, lease: Lease, deletion: Deletion, *, location: Location | None
) -> dict[str, int]:
    kind = deletion.subject_kind
    document_id = deletion.subject_id if kind is SubjectKind.DOCUMENT else None
    collection_id = deletion.subject_id if kind is SubjectKind.COLLECTION else None
    async with resources.pool.acquire() as conn:
        remaining = await leftovers.count_leftovers(
            conn,
            deletion.workspace_id,
            document_id=document_id,
            collection_id=collection_id,
            spaces=await embedding_spaces.select_embedding_spaces(conn),
        )
        if kind is SubjectKind.WORKSPACE:
            remaining |= await workspace_rows.count_rows(conn, deletion.workspace_id, except_job_id=lease.job.id)
        else:
            remaining["files"] = await files.count_files_of_deletion(conn, deletion.workspace_id, deletion.id)
        if document_id is not None:
            remaining["chat_messages"] = await chat_messages.count_unredacted(conn, deletion.workspace_id, document_id)
            remaining["idempotent_answers"] = await idempotency_keys.count_responses_about(
                conn, deletion.workspace_id, [document_id]
            )
    if location is not None and kind is SubjectKind.WORKSPACE:
        storage = resources.storage
        remaining["objects"] = await storage.count_objects(location.bucket, prefix=location.key_prefix)
        if await storage.keeps_versions(location.bucket):
            remaining["objects"] += await storage.count_versions(location.bucket, prefix=location.key_prefix)
    return remaining


def _cache_receipt(resources: Resources, removed: int) -> StoreReceipt:
    """Return the line for cached vectors, which are keyed by content: those of a document cannot be looked up.

    They expire EMBEDDING_CACHE_DAYS after their last use, so also after a use by another workspace.
    """
    retained_until = datetime.now(UTC) + timedelta(days=resources.settings.llm.embedding_cache_days)
    return StoreReceipt("embedding_cache", removed, 0, 0, retained_until, is_counted=False)

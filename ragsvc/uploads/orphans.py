"""Finds objects and multipart uploads that no row refers to, and files whose object is missing.

Only buckets and prefixes in the workspaces table are scanned, since other environments can share the object store. A
row is inserted before its object is created, so an upload in progress always has a row; ORPHAN_TTL_S is an extra
margin.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from ragsvc.db import files, storage_audits
from ragsvc.errors.work import WorkError
from ragsvc.storage.errors import ObjectMissing
from ragsvc.telemetry.metrics import ORPHANS_REMOVED
from ragsvc.telemetry.sweep_items import record_failed_item, sweep_each

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from ragsvc.domain.documents import File
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources

# Buckets scanned per sweep, and pages per bucket; the next sweep continues where this one stopped.
BUCKETS_PER_SWEEP = 4
PAGES_PER_BUCKET = 5
# How long a sweep can spend on one bucket before another process can claim the bucket.
CLAIM_LEASE_S = 600.0
# Keys per page of a bucket, and rows per page of the files table.
PAGE_SIZE = 1000
# Concurrent HeadObject calls.
MAX_CONCURRENT_HEADS = 16
# An object key, without the workspace's prefix: "objects/" and the id of the upload session.
_SESSION_KEY = re.compile(r"objects/([0-9a-f]{32})")

log = structlog.get_logger(__name__)


class FindingKind(StrEnum):
    """Kinds of mismatch between the database and the object store."""

    OBJECT = "object"
    MULTIPART = "multipart"
    MISSING = "missing"
    BUCKET = "bucket"


@dataclass(frozen=True, slots=True)
class Finding:
    """An object or multipart upload without a row, a file without its object, or a workspace without its bucket."""

    kind: FindingKind
    workspace_id: UUID
    bucket: str
    object_key: str
    since: datetime
    size_bytes: int | None = None
    s3_upload_id: str | None = None
    file_id: UUID | None = None


async def sweep_orphans(resources: Resources) -> int:
    """Remove orphans from the buckets that are due and return how many were removed.

    A bucket is due ORPHAN_TTL_S after its last complete scan, and is scanned by one process at a time.
    """
    removed = 0
    for _ in range(BUCKETS_PER_SWEEP):
        async with resources.pool.acquire() as conn:
            claimed = await storage_audits.claim_audit(conn, lease_s=CLAIM_LEASE_S)
        if claimed is None:
            break
        try:
            removed += await _sweep_bucket(resources, *claimed)
        except WorkError as error:
            # The bucket is due again when the claim expires.
            record_failed_item("bucket", claimed[0], error)
    return removed


async def find_orphans(
    resources: Resources, workspace: Workspace, *, ttl_s: float, page_size: int = PAGE_SIZE
) -> AsyncIterator[Finding]:
    """Yield objects and uploads in the workspace's bucket that have no row and are older than `ttl_s` seconds."""
    before = datetime.now(UTC) - timedelta(seconds=ttl_s)
    for finding in await _orphaned_multiparts(resources, workspace, before=before):
        yield finding
    after = ""
    while True:
        found, after = await _orphaned_objects(resources, workspace, before=before, after=after, page_size=page_size)
        for finding in found:
            yield finding
        if not after:
            return


async def find_missing_objects(
    resources: Resources, workspace: Workspace, *, page_size: int = PAGE_SIZE
) -> AsyncIterator[Finding]:
    """Yield the workspace's files whose object is missing from the store."""
    slots = asyncio.Semaphore(MAX_CONCURRENT_HEADS)

    async def check(file: File) -> File | None:
        async with slots:
            return None if await _has_object(resources, workspace, file) else file

    before: UUID | None = None
    while True:
        async with resources.pool.acquire() as conn:
            page = await files.select_files(conn, workspace.id, before=before, limit=page_size)
        for file in await asyncio.gather(*(check(file) for file in page)):
            if file is not None:
                yield Finding(
                    kind=FindingKind.MISSING,
                    workspace_id=workspace.id,
                    bucket=workspace.bucket,
                    object_key=file.object_key,
                    since=file.created_at,
                    size_bytes=file.size_bytes,
                    file_id=file.id,
                )
        if len(page) < page_size:
            return
        before = page[-1].id


async def remove_orphan(resources: Resources, finding: Finding) -> None:
    """Remove an orphan from the store; missing files and buckets are left for operators to handle."""
    match finding.kind:
        case FindingKind.OBJECT:
            await resources.storage.delete_object(finding.bucket, finding.object_key)
        case FindingKind.MULTIPART:
            await resources.storage.abort_multipart(
                finding.bucket, finding.object_key, upload_id=finding.s3_upload_id or ""
            )
        case FindingKind.MISSING | FindingKind.BUCKET:
            return


async def _sweep_bucket(resources: Resources, workspace: Workspace, after: str) -> int:
    ttl_s = resources.settings.api.orphan_ttl_s
    before = datetime.now(UTC) - timedelta(seconds=ttl_s)
    found: list[Finding] = []
    try:
        if not after:
            found += await _orphaned_multiparts(resources, workspace, before=before)
        for _ in range(PAGES_PER_BUCKET):
            more, after = await _orphaned_objects(resources, workspace, before=before, after=after, page_size=PAGE_SIZE)
            found += more
            if not after:
                break
    except ObjectMissing:
        log.warning("bucket_missing", workspace_id=workspace.id, bucket=workspace.bucket)
        return 0

    async def remove(finding: Finding) -> None:
        await remove_orphan(resources, finding)
        ORPHANS_REMOVED.inc()
        log.warning(
            "orphan_removed",
            kind=finding.kind,
            workspace_id=finding.workspace_id,
            object_key=finding.object_key,
            since=finding.since.isoformat(),
        )

    removed = await sweep_each(found, remove, kind="orphan")
    async with resources.pool.acquire() as conn:
        await storage_audits.update_audit(conn, workspace.id, after=after, due_in_s=0 if after else ttl_s)
    return removed


async def _orphaned_multiparts(resources: Resources, workspace: Workspace, *, before: datetime) -> list[Finding]:
    uploads = await resources.storage.list_multiparts(workspace.bucket, prefix=workspace.key_prefix)
    listed = [one for one in uploads if one.initiated_at < before]
    open_keys, _stored = await _known_keys(resources, workspace, [one.object_key for one in listed])
    return [
        Finding(
            kind=FindingKind.MULTIPART,
            workspace_id=workspace.id,
            bucket=workspace.bucket,
            object_key=one.object_key,
            since=one.initiated_at,
            s3_upload_id=one.upload_id,
        )
        for one in listed
        if _session_key(workspace, one.object_key) not in open_keys
    ]


async def _orphaned_objects(
    resources: Resources, workspace: Workspace, *, before: datetime, after: str, page_size: int
) -> tuple[list[Finding], str]:
    """Return the orphans of one page, and the key after which the next page starts, or '' if there is none."""
    page = await resources.storage.list_objects(
        workspace.bucket, prefix=workspace.key_prefix, after=after, page_size=page_size
    )
    listed = [one for one in page if one.modified_at < before]
    open_keys, stored_keys = await _known_keys(resources, workspace, [one.object_key for one in listed])
    found = [
        Finding(
            kind=FindingKind.OBJECT,
            workspace_id=workspace.id,
            bucket=workspace.bucket,
            object_key=one.object_key,
            since=one.modified_at,
            size_bytes=one.size_bytes,
        )
        for one in listed
        if one.object_key not in stored_keys and _session_key(workspace, one.object_key) not in open_keys
    ]
    return found, page[-1].object_key if len(page) == page_size else ""


async def _known_keys(
    resources: Resources, workspace: Workspace, keys: Iterable[str]
) -> tuple[frozenset[str], frozenset[str]]:
    matches = (_SESSION_KEY.match(key.removeprefix(workspace.key_prefix)) for key in keys)
    upload_ids = {UUID(hex=match[1]) for match in matches if match is not None}
    if not upload_ids:
        return frozenset(), frozenset()
    async with resources.pool.acquire() as conn:
        return await storage_audits.select_known_keys(conn, workspace.id, sorted(upload_ids))


def _session_key(workspace: Workspace, key: str) -> str:
    """Return the object key of the session that a key belongs to, or ''; a tail's key starts with its object's key."""
    match = _SESSION_KEY.match(key.removeprefix(workspace.key_prefix))
    return workspace.key_prefix + match[0] if match else ""


async def _has_object(resources: Resources, workspace: Workspace, file: File) -> bool:
    """Return whether the file's object exists; also return True if the file was deleted after it was listed."""
    if await resources.storage.object_exists(workspace.bucket, file.object_key):
        return True
    async with resources.pool.acquire() as conn:
        return await files.select_file(conn, workspace.id, file.id) is None

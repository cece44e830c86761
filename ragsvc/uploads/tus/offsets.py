"""How far an upload over tus has come, as the store says it: whole parts in order from the first, then the tail."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ragsvc.domain.uploads import UploadStatus
from ragsvc.errors import NotFound, UploadGone, UploadNotPending
from ragsvc.storage.errors import ObjectMissing
from ragsvc.uploads.completion import complete_session
from ragsvc.uploads.sessions import load_session
from ragsvc.uploads.tails import load_tail

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ragsvc.domain.uploads import Upload
    from ragsvc.resources import Resources
    from ragsvc.storage.objects import StoredPart
    from ragsvc.uploads.tails import Tail


@dataclass(frozen=True, slots=True)
class Progress:
    """A session, the parts the store has, and the tail, unless it was left behind by a part that is whole."""

    upload: Upload
    offset: int
    whole_parts: int = 0
    parts: tuple[StoredPart, ...] = ()
    tail: Tail | None = None

    @property
    def is_full(self) -> bool:
        """Tell whether every byte is there."""
        return self.offset == self.upload.size_bytes


async def load_progress(resources: Resources, workspace_id: UUID, upload_id: UUID) -> Progress:
    """Return how far the upload has come.

    Raises:
        NotFound: there is no such upload that was opened by tus.
        UploadGone: it ended without a document.
    """
    upload = await load_upload(resources, workspace_id, upload_id)
    if upload.status is UploadStatus.COMPLETED:
        return Progress(upload, upload.size_bytes)
    # The tail first: a part that becomes whole in between makes it one that was left behind.
    tail = await load_tail(resources, upload)
    try:
        parts = await resources.storage.list_parts(
            upload.bucket, upload.object_key, upload_id=upload.s3_upload_id or ""
        )
    except ObjectMissing:
        return await _progress_without_parts(resources, workspace_id, upload_id)
    return measure(upload, parts, tail)


def measure(upload: Upload, parts: Sequence[StoredPart], tail: Tail | None) -> Progress:
    """Return how far these parts and this tail go."""
    sizes = {part.number: part.size_bytes for part in parts}
    whole = 0
    while whole < upload.part_count and sizes.get(whole + 1) == upload.size_of_part(whole + 1):
        whole += 1
    offset = min(whole * (upload.part_size_bytes or 0), upload.size_bytes)
    if tail is None or tail.part_number != whole + 1:
        return Progress(upload, offset, whole, tuple(parts))
    return Progress(upload, offset + tail.counted_bytes, whole, tuple(parts), tail)


async def _progress_without_parts(resources: Resources, workspace_id: UUID, upload_id: UUID) -> Progress:
    """Return the progress of an upload whose parts the store does not list: joined, or gone behind our back."""
    upload = await load_upload(resources, workspace_id, upload_id)
    if upload.status is UploadStatus.PENDING:
        raise UploadGone("The store does not know the upload any more.")
    return Progress(upload, upload.size_bytes)


async def load_upload(resources: Resources, workspace_id: UUID, upload_id: UUID) -> Upload:
    """Return a session that was opened by tus; raises like `load_progress`."""
    upload = await load_session(resources, workspace_id, upload_id)
    if upload.tus_metadata is None:
        raise NotFound
    match upload.status:
        case UploadStatus.COMPLETING | UploadStatus.COMPLETED:
            return upload
        case UploadStatus.PENDING if upload.expires_at > datetime.now(UTC):
            return upload
        case UploadStatus.PENDING:
            raise UploadGone("The upload has expired.")
        case _:
            raise UploadGone(f"The upload is {upload.status}.")


async def settle_progress(resources: Resources, workspace_id: UUID, upload_id: UUID) -> Progress:
    """Return how far the upload is, and make it a document where every byte is there.

    Whoever stored the last byte may have died before it did; a client that asks then has nothing more to send.

    Raises:
        NotFound, UploadGone: there is no such upload, or not any more.
    """
    progress = await load_progress(resources, workspace_id, upload_id)
    if progress.is_full and progress.upload.status is not UploadStatus.COMPLETED:
        try:
            await complete_session(resources, workspace_id, upload_id)
        except UploadNotPending as ended:
            raise UploadGone(ended.detail) from None
        progress = await load_progress(resources, workspace_id, upload_id)
    return progress

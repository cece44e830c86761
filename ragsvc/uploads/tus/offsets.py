"""Computes the offset of a tus upload from the store: contiguous complete parts from the first, then the tail."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ragsvc.domain.uploads import UploadStatus
from ragsvc.errors.requests import NotFound, UploadGone, UploadNotPending
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
    """A session with its offset, its parts in the store and its tail; `tail` is None once its part is complete."""

    upload: Upload
    offset: int
    whole_parts: int = 0
    parts: tuple[StoredPart, ...] = ()
    tail: Tail | None = None

    @property
    def is_full(self) -> bool:
        """Return whether all bytes have been received."""
        return self.offset == self.upload.size_bytes


async def load_progress(resources: Resources, workspace_id: UUID, upload_id: UUID) -> Progress:
    """Return the upload's progress.

    Raises:
        NotFound: there is no such tus upload.
        UploadGone: it ended without a document.
    """
    upload = await load_upload(resources, workspace_id, upload_id)
    if upload.status is UploadStatus.COMPLETED:
        return Progress(upload, upload.size_bytes)
    # Load the tail first: if its part is completed in between, the tail is recognised as stale.
    while (tail := await load_tail(resources, upload)) is None and upload.tail_id is not None:
        before, upload = upload, await load_upload(resources, workspace_id, upload_id)
        if upload.tail_id == before.tail_id:
            break
    try:
        parts = await resources.storage.list_parts(
            upload.bucket, upload.object_key, upload_id=upload.s3_upload_id or ""
        )
    except ObjectMissing:
        return await _progress_without_parts(resources, workspace_id, upload_id)
    return measure(upload, parts, tail)


def measure(upload: Upload, parts: Sequence[StoredPart], tail: Tail | None) -> Progress:
    """Return the progress that these parts and this tail amount to."""
    sizes = {part.number: part.size_bytes for part in parts}
    whole = 0
    while whole < upload.part_count and sizes.get(whole + 1) == upload.size_of_part(whole + 1):
        whole += 1
    offset = min(whole * (upload.part_size_bytes or 0), upload.size_bytes)
    if tail is None or tail.part_number != whole + 1:
        return Progress(upload, offset, whole, tuple(parts))
    return Progress(upload, offset + tail.counted_bytes, whole, tuple(parts), tail)


async def _progress_without_parts(resources: Resources, workspace_id: UUID, upload_id: UUID) -> Progress:
    """Return the progress of an upload whose parts the store does not list, because they were joined or lost."""
    upload = await load_upload(resources, workspace_id, upload_id)
    if upload.status is UploadStatus.PENDING:
        raise UploadGone("The object store no longer has the upload.")
    return Progress(upload, upload.size_bytes)


async def load_upload(resources: Resources, workspace_id: UUID, upload_id: UUID) -> Upload:
    """Return a tus session; raises the same errors as `load_progress`."""
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
    """Return the upload's progress, completing the upload first if all bytes have been received.

    The process that stored the last byte can die before it completes the upload, and the client has nothing more to
    send.

    Raises:
        NotFound, UploadGone: there is no such upload, or it has ended.
    """
    progress = await load_progress(resources, workspace_id, upload_id)
    if progress.is_full and progress.upload.status is not UploadStatus.COMPLETED:
        try:
            await complete_session(resources, workspace_id, upload_id)
        except UploadNotPending as ended:
            raise UploadGone(ended.detail) from None
        progress = await load_progress(resources, workspace_id, upload_id)
    return progress

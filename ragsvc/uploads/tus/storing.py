"""Stores the parts and the tail of an append request while it has the write lease."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.domain.uploads import UploadStatus
from ragsvc.uploads.sessions import load_session
from ragsvc.uploads.tails import read_tail, remove_tail, store_tail

if TYPE_CHECKING:
    from ragsvc.domain.uploads import Upload
    from ragsvc.resources import Resources
    from ragsvc.uploads.tus.writers import Writer


class LeasedStore:
    """Stores parts and tails for one writer.

    Every method raises UploadLocked once the lease is lost, and ObjectMissing once the upload has ended.
    """

    def __init__(self, resources: Resources, upload: Upload, writer: Writer) -> None:
        self._resources = resources
        self._upload = upload
        self._writer = writer

    async def put_part(self, number: int, body: list[bytearray]) -> None:
        """Store a part."""
        self._writer.require()
        await self._resources.storage.upload_part(
            self._upload.bucket,
            self._upload.object_key,
            upload_id=self._upload.s3_upload_id or "",
            number=number,
            body=body,
        )

    async def copy_tail_to_part(self, number: int) -> None:
        """Copy the tail, which is a complete part whose checksum is now verified, to its part."""
        self._writer.require()
        size_bytes = self._upload.size_of_part(number)
        await self._resources.storage.stream_part(
            self._upload.bucket,
            self._upload.object_key,
            upload_id=self._upload.s3_upload_id or "",
            number=number,
            size_bytes=size_bytes,
            body=read_tail(self._resources, self._upload, size_bytes=size_bytes),
        )

    async def put_tail(self, number: int, chunks: list[bytearray], *, counted_bytes: int | None) -> None:
        """Store the first bytes of a part as the tail; all of them count if `counted_bytes` is None."""
        self._writer.require()
        body = b"".join(chunks)
        await store_tail(
            self._resources,
            self._upload,
            part_number=number,
            body=body,
            counted_bytes=len(body) if counted_bytes is None else counted_bytes,
        )
        now = await load_session(self._resources, self._upload.workspace_id, self._upload.id)
        if now.status not in {UploadStatus.PENDING, UploadStatus.COMPLETING}:
            # The session was cleaned up in the meantime, and the sweeper will not visit it again.
            await remove_tail(self._resources, self._upload)

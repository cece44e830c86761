"""Stores the parts and the tail of an append request while it has the write lease."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from ragsvc.domain.ids import new_id
from ragsvc.errors.requests import UploadLocked
from ragsvc.errors.work import WorkError
from ragsvc.uploads.tails import read_tail, store_tail

if TYPE_CHECKING:
    from ragsvc.domain.uploads import Upload
    from ragsvc.resources import Resources
    from ragsvc.uploads.tus.writers import Writer

log = structlog.get_logger(__name__)


class LeasedStore:
    """Stores parts and tails for one writer.

    Every method raises UploadLocked once the lease is lost, and ObjectMissing once the upload has ended.
    """

    def __init__(self, resources: Resources, upload: Upload, writer: Writer) -> None:
        self._resources = resources
        self.upload = upload
        self._writer = writer

    async def put_part(self, number: int, body: list[bytearray]) -> None:
        """Store a part."""
        self._writer.require()
        await self._resources.storage.upload_part(
            self.upload.bucket,
            self.upload.object_key,
            upload_id=self.upload.s3_upload_id or "",
            number=number,
            body=body,
        )

    async def copy_tail_to_part(self, number: int) -> None:
        """Copy the tail, which is a complete part whose checksum is now verified, to its part."""
        self._writer.require()
        size_bytes = self.upload.size_of_part(number)
        await self._resources.storage.stream_part(
            self.upload.bucket,
            self.upload.object_key,
            upload_id=self.upload.s3_upload_id or "",
            number=number,
            size_bytes=size_bytes,
            body=read_tail(self._resources, self.upload, size_bytes=size_bytes),
        )

    async def put_tail(self, number: int, chunks: list[bytearray], *, counted_bytes: int | None) -> None:
        """Store the first bytes of a part as the tail; all of them count if `counted_bytes` is None."""
        self._writer.require()
        body = b"".join(chunks)
        before, tail_id = self.upload, new_id()
        after = replace(before, tail_id=tail_id)
        await store_tail(
            self._resources,
            after,
            part_number=number,
            body=body,
            counted_bytes=len(body) if counted_bytes is None else counted_bytes,
        )
        # The process can have been frozen since it checked the lease, so what counts is whether the row still names it.
        if not await self._writer.name_tail(tail_id):
            await self._remove(after)
            raise UploadLocked("Another request has taken over the upload.")
        self.upload = after
        await self._remove(before)

    async def _remove(self, upload: Upload) -> None:
        try:
            await self._resources.storage.delete_object(upload.bucket, upload.tail_key)
        except WorkError as error:
            # It does not count, and is removed when the upload ends.
            log.warning("tail_not_removed", upload_id=upload.id, error=error.detail)

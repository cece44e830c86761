"""Writes a stream of unknown length to the store as the parts of one multipart upload."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.db import upload_sessions
from ragsvc.errors import NotFound

if TYPE_CHECKING:
    from ragsvc.models.uploads import Upload
    from ragsvc.resources import Resources
    from ragsvc.storage.objects import StoredPart


@dataclass(frozen=True, slots=True)
class WrittenObject:
    """An object that was written as a whole."""

    size_bytes: int
    sha256: bytes
    etag: str


class PartWriter:
    """Cuts what is written into parts of UPLOAD_PART_SIZE_BYTES; holds one part in memory.

    Even a small file is an upload of one part: a single PUT could overwrite an object after it was completed.
    """

    def __init__(self, resources: Resources, upload: Upload) -> None:
        self.size_bytes = 0
        self._resources = resources
        self._upload = upload
        self._part_size_bytes = resources.settings.upload_part_size_bytes
        self._s3_upload_id = ""
        self._buffer = bytearray()
        self._parts: list[StoredPart] = []
        self._sha256 = hashlib.sha256()

    async def begin(self) -> None:
        """Open the multipart upload.

        Raises:
            NotFound: the session ended meanwhile.
        """
        upload = self._upload
        self._s3_upload_id = await self._resources.storage.create_multipart(
            upload.bucket, upload.object_key, mime_type=upload.mime_type
        )
        async with self._resources.pool.acquire() as conn:
            known = await upload_sessions.update_s3_upload_id(
                conn, upload.workspace_id, upload.id, s3_upload_id=self._s3_upload_id
            )
        if not known:
            raise NotFound

    async def write(self, block: bytes) -> None:
        """Take bytes; returns once they are buffered or stored, so that a slow store slows its client."""
        self.size_bytes += len(block)
        self._sha256.update(block)
        self._buffer += block
        while len(self._buffer) >= self._part_size_bytes:
            await self._flush(self._part_size_bytes)

    async def finish(self) -> WrittenObject:
        """Store the rest and complete the object."""
        if self._buffer:
            await self._flush(len(self._buffer))
        etag = await self._resources.storage.complete_multipart(
            self._upload.bucket, self._upload.object_key, upload_id=self._s3_upload_id, parts=self._parts
        )
        return WrittenObject(self.size_bytes, self._sha256.digest(), etag)

    async def _flush(self, size_bytes: int) -> None:
        body = bytes(self._buffer[:size_bytes])
        del self._buffer[:size_bytes]
        part = await self._resources.storage.upload_part(
            self._upload.bucket,
            self._upload.object_key,
            upload_id=self._s3_upload_id,
            number=len(self._parts) + 1,
            body=body,
        )
        self._parts.append(part)

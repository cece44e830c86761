"""Writes a stream of unknown length to the store as the parts of one multipart upload."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.db import upload_sessions
from ragsvc.errors import NotFound
from ragsvc.uploads.part_buffers import PartBuffer

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from ragsvc.domain.uploads import Upload
    from ragsvc.resources import Resources
    from ragsvc.storage.objects import StoredPart


@dataclass(frozen=True, slots=True)
class WrittenObject:
    """An object that was written as a whole."""

    size_bytes: int
    sha256: bytes
    etag: str


class PartWriter:
    """Cuts what is written into parts of UPLOAD_PART_SIZE_BYTES; one fills while the one before it is stored.

    Even a small file is an upload of one part: a single PUT could overwrite an object after it was completed.
    """

    def __init__(self, resources: Resources, upload: Upload, *, announced_bytes: int | None) -> None:
        self.size_bytes = 0
        self._resources = resources
        self._upload = upload
        self._part_size_bytes = resources.settings.api.upload_part_size_bytes
        self._s3_upload_id = ""
        room_bytes = min(self._part_size_bytes, announced_bytes or self._part_size_bytes)
        self._buffer = PartBuffer(resources.buffers, room_bytes=room_bytes)
        self._handed_over = 0
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
        """Take bytes; returns once there is room for more, so that a slow store slows its client.

        Raises:
            Unavailable: others needed the memory for too long.
        """
        self.size_bytes += len(block)
        self._sha256.update(block)
        rest = memoryview(block)
        while rest:
            await self._buffer.make_room_soon()
            room = self._part_size_bytes - self._buffer.size_bytes
            self._buffer.write(rest[:room])
            rest = rest[room:]
            if self._buffer.size_bytes == self._part_size_bytes:
                await self._hand_over()

    async def finish(self) -> WrittenObject:
        """Store the rest and complete the object."""
        if self._buffer.size_bytes:
            await self._hand_over()
        await self._buffer.wait_until_stored()
        etag = await self._resources.storage.complete_multipart(
            self._upload.bucket, self._upload.object_key, upload_id=self._s3_upload_id, parts=self._parts
        )
        return WrittenObject(self.size_bytes, self._sha256.digest(), etag)

    def hurrying(self) -> AbstractAsyncContextManager[None]:
        """Write within this: a client that is slow while others wait for its memory is ended with Unavailable."""
        return self._buffer.hurrying()

    async def close(self) -> None:
        """Hold nothing more."""
        await self._buffer.close()

    async def _hand_over(self) -> None:
        self._handed_over += 1
        await self._buffer.hand_over(functools.partial(self._store, self._handed_over))

    async def _store(self, number: int, body: list[bytearray]) -> None:
        part = await self._resources.storage.upload_part(
            self._upload.bucket, self._upload.object_key, upload_id=self._s3_upload_id, number=number, body=body
        )
        self._parts.append(part)

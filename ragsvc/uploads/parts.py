"""Writes a stream of unknown length to the store as the parts of one multipart upload."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.db import upload_sessions
from ragsvc.errors.requests import NotFound
from ragsvc.uploads import part_buffers
from ragsvc.uploads.part_buffers import PartBuffer

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from ragsvc.domain.uploads import Upload
    from ragsvc.resources import Resources
    from ragsvc.storage.objects import StoredPart


@dataclass(frozen=True, slots=True)
class WrittenObject:
    """A complete object, as PartWriter wrote it."""

    size_bytes: int
    sha256: bytes
    etag: str


class PartWriter:
    """Splits a stream into parts of UPLOAD_PART_SIZE_BYTES; one part fills while the previous one is being stored.

    Even a small file is sent as a multipart upload, because a delayed single PUT could overwrite the object after it
    was completed.
    """

    def __init__(self, resources: Resources, upload: Upload, *, announced_bytes: int | None) -> None:
        self.size_bytes = 0
        self._resources = resources
        self._upload = upload
        self._part_size_bytes = resources.settings.api.upload_part_size_bytes
        self._s3_upload_id = ""
        part_bytes = min(self._part_size_bytes, announced_bytes or self._part_size_bytes)
        self._buffer = PartBuffer(resources.buffers, part_bytes=part_bytes, turn_s=part_buffers.LONG_TURN_S)
        self._last_number = 0
        self._parts: list[StoredPart] = []
        self._sha256 = hashlib.sha256()

    async def begin(self) -> None:
        """Open the multipart upload.

        Raises:
            NotFound: the session has ended.
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
        """Buffer the bytes, waiting for memory where needed, so that a slow store slows down the client.

        Raises:
            Overloaded: no memory became free in time.
        """
        self.size_bytes += len(block)
        self._sha256.update(block)
        rest = memoryview(block)
        while rest:
            free_bytes = self._part_size_bytes - self._buffer.size_bytes
            await self._buffer.reserve(min(len(rest), free_bytes))
            self._buffer.write(rest[:free_bytes])
            rest = rest[free_bytes:]
            if self._buffer.size_bytes == self._part_size_bytes:
                await self._start_storing()

    async def finish(self) -> WrittenObject:
        """Store the rest and complete the object."""
        if self._buffer.size_bytes:
            await self._start_storing()
        await self._buffer.wait_until_stored()
        etag = await self._resources.storage.complete_multipart(
            self._upload.bucket, self._upload.object_key, upload_id=self._s3_upload_id, parts=self._parts
        )
        return WrittenObject(self.size_bytes, self._sha256.digest(), etag)

    def abort_when_slow(self) -> AbstractAsyncContextManager[None]:
        """Wrap all writes in this: it raises RequestTimeout if the client is slow while others wait for its memory."""
        return self._buffer.abort_when_slow()

    async def close(self) -> None:
        """Discard what is not stored yet and free the memory."""
        await self._buffer.close()

    async def _start_storing(self) -> None:
        self._last_number += 1
        await self._buffer.start_storing(functools.partial(self._store, self._last_number))

    async def _store(self, number: int, body: list[bytearray]) -> None:
        part = await self._resources.storage.upload_part(
            self._upload.bucket, self._upload.object_key, upload_id=self._s3_upload_id, number=number, body=body
        )
        self._parts.append(part)

"""Appends what a tus client sends to its upload: whole parts go to the store as they fill, the rest becomes the tail.

A part's bytes are in memory at most. With a checksum nothing may count before its end is known, and a body can be
longer than memory: then the first part that the request fills is kept as the tail, behind the bytes that count
already, and those after it as parts. While the first is no part, none of them is in order, so none counts.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.errors import ChecksumMismatch, OffsetConflict, TooLarge, UploadGone, UploadLocked, UploadNotPending
from ragsvc.models.uploads import UploadStatus
from ragsvc.storage.failures import ObjectMissing
from ragsvc.uploads.completion import complete_session
from ragsvc.uploads.offsets import load_progress, load_upload
from ragsvc.uploads.sessions import load_session
from ragsvc.uploads.tails import read_tail, remove_tail, store_tail
from ragsvc.uploads.writers import writing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from uuid import UUID

    from ragsvc.resources import Resources
    from ragsvc.uploads.offsets import Progress
    from ragsvc.uploads.writers import Writer


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a request's bytes are to hash to; the algorithm by hashlib's name."""

    algorithm: str
    digest: bytes


async def append_bytes(
    resources: Resources,
    workspace_id: UUID,
    upload_id: UUID,
    *,
    offset: int,
    size_bytes: int | None,
    checksum: Checksum | None,
    source: AsyncIterator[bytes],
    should_leave: Callable[[], bool],
) -> Progress:
    """Store what comes and return how far the upload is; the last byte completes it.

    A source that ends too soon is fine: what came is kept, unless there is a checksum.

    Raises:
        NotFound, UploadGone: there is no such upload, or not any more.
        UploadLocked: another request appends to it.
        OffsetConflict: the upload goes on elsewhere.
        TooLarge: these are more bytes than were declared.
        ChecksumMismatch: they are not those that were announced; none was kept.
    """
    progress = await load_progress(resources, workspace_id, upload_id)
    if progress.is_full:
        _check(progress, offset, size_bytes)
    else:
        async with writing(resources, progress.upload, should_leave=should_leave) as writer:
            # Whoever wrote until now may have stored something since.
            progress = await load_progress(resources, workspace_id, upload_id)
            _check(progress, offset, size_bytes)
            try:
                await _Append(resources, progress, writer, checksum).run(source)
            except UploadLocked:
                # Another has it, or it is over.
                await load_upload(resources, workspace_id, upload_id)
                raise
            except ObjectMissing:
                raise UploadGone("The upload ended meanwhile.") from None
    return await settle_progress(resources, workspace_id, upload_id)


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


def _check(progress: Progress, offset: int, size_bytes: int | None) -> None:
    if offset != progress.offset:
        raise OffsetConflict(f"The upload goes on at {progress.offset}, not at {offset}.")
    _check_room(progress, offset + (size_bytes or 0))


def _check_room(progress: Progress, end: int) -> None:
    if end > progress.upload.size_bytes:
        raise TooLarge(f"The file was declared to have {progress.upload.size_bytes} bytes, and more were sent.")


class _Append:
    """One request's bytes on their way."""

    def __init__(self, resources: Resources, progress: Progress, writer: Writer, checksum: Checksum | None) -> None:
        self._resources = resources
        self._progress = progress
        self._upload = progress.upload
        self._writer = writer
        self._checksum = checksum
        self._hash = hashlib.new(checksum.algorithm, usedforsecurity=False) if checksum else None
        self._number = progress.whole_parts + 1
        self._buffer = io.BytesIO()
        self._held: int | None = None

    async def run(self, source: AsyncIterator[bytes]) -> None:
        await self._begin()
        end = self._progress.offset
        async for block in self._writer.blocks(source):
            end += len(block)
            _check_room(self._progress, end)
            if self._hash is not None:
                self._hash.update(block)
            await self._add(block)
        if self._checksum and self._hash and self._hash.digest() != self._checksum.digest:
            raise ChecksumMismatch
        if end > self._progress.offset:
            await self._end()

    async def _begin(self) -> None:
        tail = self._progress.tail
        if tail is None:
            return
        if tail.counted_bytes < tail.size_bytes:
            await self._drop_unchecked()
        async for block in read_tail(self._resources, self._upload, size_bytes=tail.counted_bytes):
            self._buffer.write(block)

    async def _drop_unchecked(self) -> None:
        """Empty the parts of a request whose checksum was wrong or never came, before they come to be in order."""
        for part in self._progress.parts:
            if part.number > self._number and part.size_bytes:
                await self._store_part(part.number, b"")

    async def _add(self, block: bytes) -> None:
        rest = memoryview(block)
        while rest:
            room = self._upload.size_of_part(self._number) - self._buffer.tell()
            if not room:
                # Only when more is to come: the end of the body decides about the last.
                await self._flush()
                continue
            self._buffer.write(rest[:room])
            rest = rest[room:]

    async def _flush(self) -> None:
        body = self._buffer.getvalue()
        self._buffer = io.BytesIO()
        if self._checksum is not None and self._held is None:
            counted_bytes = self._progress.tail.counted_bytes if self._progress.tail else 0
            await self._store_tail(body, counted_bytes=counted_bytes)
            self._held = self._number
        else:
            await self._store_part(self._number, body)
        self._number += 1

    async def _end(self) -> None:
        if self._held is not None:
            await self._store_held(self._held)
        body = self._buffer.getvalue()
        if len(body) == self._upload.size_of_part(self._number):
            await self._store_part(self._number, body)
        else:
            await self._store_tail(body, counted_bytes=len(body))

    async def _store_part(self, number: int, body: bytes) -> None:
        self._writer.require()
        await self._resources.storage.upload_part(
            self._upload.bucket,
            self._upload.object_key,
            upload_id=self._upload.s3_upload_id or "",
            number=number,
            body=body,
        )

    async def _store_held(self, number: int) -> None:
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

    async def _store_tail(self, body: bytes, *, counted_bytes: int) -> None:
        self._writer.require()
        await store_tail(
            self._resources, self._upload, part_number=self._number, body=body, counted_bytes=counted_bytes
        )
        now = await load_session(self._resources, self._upload.workspace_id, self._upload.id)
        if now.status not in {UploadStatus.PENDING, UploadStatus.COMPLETING}:
            # It was cleaned up meanwhile, and nobody would look again.
            await remove_tail(self._resources, self._upload)

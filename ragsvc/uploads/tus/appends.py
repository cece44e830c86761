"""Appends the body of a tus request to its upload: complete parts are stored as they fill, the rest as the tail.

One part fills while the previous one is being stored; no other part is in memory. If others wait for that memory, the
incomplete part of a slow client is spilled to the tail, and read back once the client gets memory again.

If the request has a checksum, no byte counts until the whole body has been verified, but the body can be larger than
memory. Therefore, the first part that the request fills is stored as the tail, after the bytes that already count, and
later ones are stored as parts. The offset counts contiguous parts only, so none of them counts until the tail is copied
to its part.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.errors.requests import ChecksumMismatch, OffsetConflict, TooLarge, UploadGone, UploadLocked
from ragsvc.storage.errors import ObjectMissing
from ragsvc.uploads import part_buffers
from ragsvc.uploads.part_buffers import PartBuffer
from ragsvc.uploads.tails import read_tail
from ragsvc.uploads.tus.offsets import load_progress, load_upload, settle_progress
from ragsvc.uploads.tus.storing import LeasedStore
from ragsvc.uploads.tus.writers import writing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from uuid import UUID

    from ragsvc.resources import Resources
    from ragsvc.uploads.tus.offsets import Progress
    from ragsvc.uploads.tus.writers import Writer


# What one read of the body usually returns at most.
READ_BYTES = 128 * 1024


@dataclass(frozen=True, slots=True)
class Checksum:
    """The expected digest of a request's bytes; `algorithm` is a hashlib name."""

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
    """Append the bytes and return the upload's progress; the last byte completes the upload.

    If the source ends early, the received bytes are stored, unless there is a checksum.

    Raises:
        NotFound, UploadGone: there is no such upload, or it has ended.
        UploadLocked: another request is appending to it.
        OffsetConflict: `offset` is not the upload's current offset.
        TooLarge: there are more bytes than were declared.
        ChecksumMismatch: the bytes do not match the checksum; none of them count.
    """
    progress = await load_progress(resources, workspace_id, upload_id)
    if progress.is_full:
        _check(progress, offset, size_bytes)
    else:
        part_bytes = _buffer_bytes(progress, size_bytes)
        buffer = PartBuffer(resources.buffers, part_bytes=part_bytes, turn_s=part_buffers.TURN_S)
        async with writing(
            resources,
            progress.upload,
            # An overdue part is usually spilled when more bytes arrive. If it is still in memory after another turn,
            # leave to free it.
            should_leave=lambda: should_leave() or buffer.is_overdue(for_s=part_buffers.TURN_S),
        ) as writer:
            # The previous writer may have stored more in the meantime.
            progress = await load_progress(resources, workspace_id, upload_id)
            _check(progress, offset, size_bytes)
            try:
                await _Append(resources, progress, writer, buffer, checksum).run(source)
            except UploadLocked:
                # Either another request has the lease, or the upload has ended; in that case `load_upload` raises.
                await load_upload(resources, workspace_id, upload_id)
                raise
            except ObjectMissing:
                raise UploadGone("The upload has ended.") from None
    return await settle_progress(resources, workspace_id, upload_id)


def _check(progress: Progress, offset: int, size_bytes: int | None) -> None:
    if offset != progress.offset:
        raise OffsetConflict(f"The upload's offset is {progress.offset}, not {offset}.")
    _check_declared_size(progress, offset + (size_bytes or 0))


def _check_declared_size(progress: Progress, end: int) -> None:
    if end > progress.upload.size_bytes:
        raise TooLarge(f"The file was declared to have {progress.upload.size_bytes} bytes, but more were sent.")


def _buffer_bytes(progress: Progress, size_bytes: int | None) -> int:
    """Return the maximum number of bytes in memory: those of the tail plus those of the request, up to one part."""
    part_size_bytes = progress.upload.part_size_bytes or 0
    counted_bytes = progress.tail.counted_bytes if progress.tail else 0
    return part_size_bytes if size_bytes is None else min(part_size_bytes, counted_bytes + size_bytes)


class _Append:
    """The state of one append request."""

    def __init__(
        self,
        resources: Resources,
        progress: Progress,
        writer: Writer,
        buffer: PartBuffer,
        checksum: Checksum | None,
    ) -> None:
        self._resources = resources
        self._progress = progress
        self._upload = progress.upload
        self._writer = writer
        self._store = LeasedStore(resources, progress.upload, writer)
        self._checksum = checksum
        self._hash = hashlib.new(checksum.algorithm, usedforsecurity=False) if checksum else None
        self._number = progress.whole_parts + 1
        self._buffer = buffer
        self._counted_bytes = progress.tail.counted_bytes if progress.tail else 0
        # The number of bytes of the filling part that are in the tail rather than in memory.
        self._spilled_bytes = self._counted_bytes
        self._unchecked_part: int | None = None

    async def run(self, source: AsyncIterator[bytes]) -> None:
        try:
            await self._run(source)
        finally:
            await self._buffer.close()

    async def _run(self, source: AsyncIterator[bytes]) -> None:
        tail, end = self._progress.tail, self._progress.offset
        if tail is not None and tail.counted_bytes < tail.size_bytes:
            await self._clear_unchecked_parts()
        async for block in self._writer.blocks(self._read(source)):
            end += len(block)
            _check_declared_size(self._progress, end)
            if self._hash is not None:
                self._hash.update(block)
            await self._add(block)
        await self._buffer.wait_until_stored()
        if self._checksum and self._hash and self._hash.digest() != self._checksum.digest:
            raise ChecksumMismatch
        if end > self._progress.offset:
            await self._end()

    async def _read(self, source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the blocks of the source, reading each only once memory is reserved; this slows down the client."""
        await self._reserve(READ_BYTES)
        async for block in source:
            yield block
            await self._reserve(READ_BYTES)

    async def _reserve(self, added_bytes: int) -> None:
        await self._buffer.reserve(self._spilled_bytes + added_bytes)
        if self._spilled_bytes:
            found = read_tail(self._resources, self._store.upload, size_bytes=self._spilled_bytes)
            body = b"".join([block async for block in found])
            # Written in one piece, so that a request that is cancelled halfway does not mistake a fragment for the
            # whole tail.
            self._buffer.write(body)
            self._spilled_bytes = 0

    async def _clear_unchecked_parts(self) -> None:
        """Empty the parts of a request that failed its checksum or was cut off, before they become contiguous."""
        for part in self._progress.parts:
            if part.number > self._number and part.size_bytes:
                await self._store.put_part(part.number, [])

    async def _add(self, block: bytes) -> None:
        rest = memoryview(block)
        while rest:
            free_bytes = self._upload.size_of_part(self._number) - self._buffer.size_bytes
            if not free_bytes:
                # Flush only when more bytes follow: `_end` handles the last part.
                await self._flush()
                continue
            self._buffer.write(rest[:free_bytes])
            rest = rest[free_bytes:]
        # Do not overwrite a tail that contains the request's first part, and never spill a complete part to the tail.
        is_part = self._buffer.size_bytes == self._upload.size_of_part(self._number)
        if self._buffer.is_overdue() and self._unchecked_part is None and not is_part:
            self._spilled_bytes = await self._buffer.spill(self._tail_writer())

    async def _flush(self) -> None:
        if self._checksum is not None and self._unchecked_part is None:
            await self._buffer.start_storing(self._tail_writer())
            self._unchecked_part = self._number
        else:
            await self._buffer.start_storing(functools.partial(self._store.put_part, self._number))
        self._number += 1

    async def _end(self) -> None:
        if self._spilled_bytes and self._checksum is None:
            # All bytes are already in the tail.
            return
        await self._reserve(0)
        if self._unchecked_part is not None:
            await self._store.copy_tail_to_part(self._unchecked_part)
        if self._buffer.size_bytes == self._upload.size_of_part(self._number):
            await self._buffer.start_storing(functools.partial(self._store.put_part, self._number))
        else:
            await self._buffer.start_storing(self._tail_writer(is_checked=True))
        await self._buffer.wait_until_stored()

    def _tail_writer(self, *, is_checked: bool = False) -> Callable[[list[bytearray]], Awaitable[None]]:
        """Return a function that stores the filling part as the tail; bytes awaiting a checksum do not count."""
        counts = is_checked or self._checksum is None
        counted_bytes = None if counts else self._counted_bytes
        return functools.partial(self._store.put_tail, self._number, counted_bytes=counted_bytes)

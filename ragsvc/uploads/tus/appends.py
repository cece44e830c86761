"""Appends what a tus client sends to its upload: whole parts go to the store as they fill, the rest becomes the tail.

One part fills while the one before it is stored, and no other is in memory. While others wait for that memory, a slow
client's part becomes the tail before it is whole, and is read back when it is the client's turn again.

With a checksum nothing may count before its end is known, and a body can be longer than memory: then the first part
that the request fills is kept as the tail, behind the bytes that count already, and those after it as parts. While
the first is no part, none of them is in order, so none counts.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.errors import ChecksumMismatch, OffsetConflict, TooLarge, UploadGone, UploadLocked
from ragsvc.storage.errors import ObjectMissing
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
        buffer = PartBuffer(resources.buffers, reserved_bytes=_buffer_bytes(progress, size_bytes))
        async with writing(
            resources,
            progress.upload,
            # Who sets no part aside in time is silent.
            should_leave=lambda: should_leave() or buffer.is_overdue(turns=2),
        ) as writer:
            # Whoever wrote until now may have stored something since.
            progress = await load_progress(resources, workspace_id, upload_id)
            _check(progress, offset, size_bytes)
            try:
                await _Append(resources, progress, writer, buffer, checksum).run(source)
            except UploadLocked:
                # Another has it, or it is over.
                await load_upload(resources, workspace_id, upload_id)
                raise
            except ObjectMissing:
                raise UploadGone("The upload ended meanwhile.") from None
    return await settle_progress(resources, workspace_id, upload_id)


def _check(progress: Progress, offset: int, size_bytes: int | None) -> None:
    if offset != progress.offset:
        raise OffsetConflict(f"The upload goes on at {progress.offset}, not at {offset}.")
    _check_declared_size(progress, offset + (size_bytes or 0))


def _check_declared_size(progress: Progress, end: int) -> None:
    if end > progress.upload.size_bytes:
        raise TooLarge(f"The file was declared to have {progress.upload.size_bytes} bytes, and more were sent.")


def _buffer_bytes(progress: Progress, size_bytes: int | None) -> int:
    """Return how much of a part is in memory at most: what the tail has of it, and what the request brings."""
    part_size_bytes = progress.upload.part_size_bytes or 0
    counted_bytes = progress.tail.counted_bytes if progress.tail else 0
    return part_size_bytes if size_bytes is None else min(part_size_bytes, counted_bytes + size_bytes)


class _Append:
    """One request's bytes on their way."""

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
        # Of the part that fills, what is in the tail and not in memory.
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
        """Yield what comes, and read on only when there is room for it: else the client waits too."""
        await self._reserve()
        async for block in source:
            yield block
            await self._reserve()

    async def _reserve(self) -> None:
        await self._buffer.reserve()
        if self._spilled_bytes:
            found = read_tail(self._resources, self._upload, size_bytes=self._spilled_bytes)
            body = b"".join([block async for block in found])
            # At once: a request that leaves meanwhile must not take a piece of it for all.
            self._buffer.write(body)
            self._spilled_bytes = 0

    async def _clear_unchecked_parts(self) -> None:
        """Empty the parts of a request whose checksum was wrong or never came, before they come to be in order."""
        for part in self._progress.parts:
            if part.number > self._number and part.size_bytes:
                await self._store.put_part(part.number, [])

    async def _add(self, block: bytes) -> None:
        rest = memoryview(block)
        while rest:
            free_bytes = self._upload.size_of_part(self._number) - self._buffer.size_bytes
            if not free_bytes:
                # Only when more is to come: the end of the body decides about the last.
                await self._flush()
                continue
            self._buffer.write(rest[:free_bytes])
            rest = rest[free_bytes:]
        # In a checked request the first part that it filled may be the tail; and a tail is never a whole part.
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
            # All of it is in the tail.
            return
        await self._reserve()
        if self._unchecked_part is not None:
            await self._store.copy_tail_to_part(self._unchecked_part)
        if self._buffer.size_bytes == self._upload.size_of_part(self._number):
            await self._buffer.start_storing(functools.partial(self._store.put_part, self._number))
        else:
            await self._buffer.start_storing(self._tail_writer(is_checked=True))
        await self._buffer.wait_until_stored()

    def _tail_writer(self, *, is_checked: bool = False) -> Callable[[list[bytearray]], Awaitable[None]]:
        """Return what stores the part that fills as the tail; only what is checked, or needs no check, counts."""
        counts = is_checked or self._checksum is None
        counted_bytes = None if counts else self._counted_bytes
        return functools.partial(self._store.put_tail, self._number, counted_bytes=counted_bytes)

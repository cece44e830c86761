"""Tails of tus uploads: separate objects with the bytes of a part that is not complete yet.

A tail's metadata states the number of its part. A tail whose part is already complete is ignored, so the offset is
correct no matter when a process dies. Each tail has a key of its own, and the session's row names the one that counts.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from ragsvc.storage.errors import ObjectMissing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.domain.uploads import Upload
    from ragsvc.resources import Resources

PART_NUMBER = "part-number"
COUNTED_BYTES = "counted-bytes"
READ_ATTEMPTS = 20
RETRY_DELAY_S = 0.05

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Tail:
    """The first bytes of a part.

    Bytes after `counted_bytes` have not been verified against a checksum, and might never be.
    """

    part_number: int
    counted_bytes: int
    size_bytes: int


async def load_tail(resources: Resources, upload: Upload) -> Tail | None:
    """Return the upload's tail; None if there is no tail or its metadata is missing."""
    for _ in range(READ_ATTEMPTS):
        try:
            stored = await resources.storage.head_object(upload.bucket, upload.tail_key)
        except ObjectMissing:
            return None
        if PART_NUMBER in stored.metadata and COUNTED_BYTES in stored.metadata:
            return Tail(int(stored.metadata[PART_NUMBER]), int(stored.metadata[COUNTED_BYTES]), stored.size_bytes)
        # The tail is being replaced, or the store died during the replacement.
        await asyncio.sleep(RETRY_DELAY_S)
    log.warning("tail_without_metadata", upload_id=upload.id)
    return None


async def store_tail(
    resources: Resources, upload: Upload, *, part_number: int, body: bytes, counted_bytes: int
) -> None:
    """Store a tail under the upload's key for it, atomically replacing an earlier one with this key."""
    await resources.storage.put_object(
        upload.bucket,
        upload.tail_key,
        body=body,
        metadata={PART_NUMBER: str(part_number), COUNTED_BYTES: str(counted_bytes)},
    )


async def read_tail(resources: Resources, upload: Upload, *, size_bytes: int) -> AsyncIterator[bytes]:
    """Yield the first `size_bytes` bytes of the tail."""
    if size_bytes:
        byte_range = (0, size_bytes - 1)
        async with resources.storage.open_object(upload.bucket, upload.tail_key, byte_range=byte_range) as body:
            async for block in body.blocks:
                yield block


async def remove_tails(resources: Resources, upload: Upload) -> None:
    """Remove the tail and those that lost writers have left; only uploads over tus have one."""
    if upload.tus_metadata is None:
        return
    for tail in await resources.storage.list_objects(upload.bucket, prefix=upload.tail_prefix):
        await resources.storage.delete_object(upload.bucket, tail.object_key)

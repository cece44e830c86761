"""Downloads a stored file to the worker's disk and verifies that it is the file that was uploaded."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

from ragsvc.errors.work import DocumentErrorCode, DocumentRejected, TransientFailure
from ragsvc.storage.errors import ObjectMissing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from ragsvc.domain.documents import File
    from ragsvc.storage.store import Storage

# Free disk space required, as a multiple of the file's size, because the file, its text and its chunks coexist.
DISK_FACTOR = 3


async def download(
    storage: Storage, bucket: str, file: File, *, into: Path, report: Callable[[float], Awaitable[None]]
) -> bytes:
    """Stream the object into a new file and return its SHA-256 digest; only one block of 1 MiB is in memory at a time.

    Raises:
        DocumentRejected: the object is missing (`object_missing`) or differs from the upload (`checksum_mismatch`).
        TransientFailure: not enough disk space.
    """
    free_bytes = shutil.disk_usage(into.parent).free
    if free_bytes < DISK_FACTOR * file.size_bytes:
        raise TransientFailure("disk_full", f"{free_bytes} bytes free, {DISK_FACTOR * file.size_bytes} needed")
    digest = hashlib.sha256()
    received_bytes = 0
    try:
        async with storage.open_object(bucket, file.object_key) as body:
            with into.open("wb") as target:  # blocking is fine: a write to the page cache takes well under 1 ms
                async for block in body.blocks:
                    digest.update(block)
                    target.write(block)
                    received_bytes += len(block)
                    await report(received_bytes / file.size_bytes)
    except ObjectMissing as error:
        raise DocumentRejected(DocumentErrorCode.OBJECT_MISSING, "the file is no longer in the object store") from error
    if file.sha256 is not None and digest.digest() != file.sha256:
        raise DocumentRejected(DocumentErrorCode.CHECKSUM_MISMATCH, "the stored file differs from the uploaded one")
    return digest.digest()

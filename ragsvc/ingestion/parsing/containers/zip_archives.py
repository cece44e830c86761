"""Opens ZIP archives after checking their directory for ZIP bombs, before unpacking anything."""

from __future__ import annotations

import errno
import mmap
import re
import struct
import zlib
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_LZMA, ZIP_STORED, BadZipFile, ZipFile

from ragsvc.errors.work import DocumentErrorCode, DocumentRejected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ragsvc.ingestion.parsing.limits import ParseLimits

# The largest office documents have a few thousand entries.
MAX_ENTRIES = 10_000
# Unpacking makes office markup 10 to 50 times larger, but a ZIP bomb a thousand times.
MAX_EXPANSION_RATIO = 200
RATIO_APPLIES_FROM_BYTES = 1024 * 1024
ENTRY_SIGNATURE = re.compile(rb"PK\x01\x02")
# Bit 0: traditional or AES encryption; bit 6: strong encryption, for example with a certificate.
ENCRYPTED_FLAGS = 0x1 | 0x40
PATCHED_FLAG = 0x20
METHODS = frozenset({ZIP_STORED, ZIP_DEFLATED, ZIP_BZIP2, ZIP_LZMA})
# Raised by zipfile for damaged archives.
ARCHIVE_ERRORS = (BadZipFile, zlib.error, struct.error, EOFError, ValueError, OverflowError)


@contextmanager
def open_archive(path: Path, limits: ParseLimits) -> Iterator[ZipFile]:
    """Open an archive after checking that the sizes in its directory are within the limits.

    Entries cannot exceed their declared size, because zipfile stops unpacking there.

    Raises:
        DocumentRejected: `limit_exceeded`, `encrypted` or `corrupt`.
    """
    _check_entry_count(path, MAX_ENTRIES)
    try:
        with _open(path) as archive:
            _check_entries(archive, limits)
            yield archive
    except (*ARCHIVE_ERRORS, OSError) as error:
        # An invalid offset in the file makes a seek fail with EINVAL; no other OSError is the file's fault.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise DocumentRejected(DocumentErrorCode.CORRUPT, f"the ZIP archive cannot be read: {error}") from error


def _open(path: Path) -> ZipFile:
    try:
        return ZipFile(path)
    except RuntimeError as error:
        raise BadZipFile(f"unsupported ZIP version: {error}") from error


def _check_entry_count(path: Path, max_entries: int) -> None:
    # zipfile creates an object for every directory entry, so count them first.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for count, _ in enumerate(ENTRY_SIGNATURE.finditer(content), start=1):
            if count > max_entries:
                raise DocumentRejected(
                    DocumentErrorCode.LIMIT_EXCEEDED, f"the archive has more than {max_entries:,} entries"
                )


def _check_entries(archive: ZipFile, limits: ParseLimits) -> None:
    entries = archive.infolist()
    if any(entry.flag_bits & ENCRYPTED_FLAGS for entry in entries):
        raise DocumentRejected(DocumentErrorCode.ENCRYPTED, "the archive is password-protected")
    if any(entry.compress_type not in METHODS or entry.flag_bits & PATCHED_FLAG for entry in entries):
        raise BadZipFile("unsupported compression method")
    expanded = sum(entry.file_size for entry in entries)
    if expanded > limits.max_expanded_bytes:
        raise DocumentRejected(
            DocumentErrorCode.LIMIT_EXCEEDED,
            f"the archive unpacks to {expanded:,} bytes; the limit is {limits.max_expanded_bytes:,}",
        )
    for entry in entries:
        if entry.file_size > RATIO_APPLIES_FROM_BYTES and entry.file_size > MAX_EXPANSION_RATIO * max(
            entry.compress_size, 1
        ):
            raise DocumentRejected(
                DocumentErrorCode.LIMIT_EXCEEDED,
                f"{entry.filename[:100]!r} unpacks to more than {MAX_EXPANSION_RATIO} times its size",
            )
    # Entries share their compressed data: no archiver does this, but a classic kind of ZIP bomb does.
    for first, second in pairwise(sorted(entries, key=lambda entry: entry.header_offset)):
        if first.header_offset + first.compress_size > second.header_offset:
            raise DocumentRejected(DocumentErrorCode.LIMIT_EXCEEDED, "entries of the archive overlap")

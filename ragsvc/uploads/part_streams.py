"""Streams a part from a client into the store, and aborts a mismatching part before the store accepts it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import TYPE_CHECKING

from ragsvc.errors.requests import DigestMismatch, InvalidRequest, PartSizeMismatch, RequestError, UploadNotPending
from ragsvc.errors.work import TransientFailure
from ragsvc.storage.errors import ObjectMissing
from ragsvc.uploads.sessions import check_part_number, load_session, require_pending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from hashlib import _Hash
    from uuid import UUID

    from ragsvc.domain.uploads import Upload
    from ragsvc.resources import Resources
    from ragsvc.storage.objects import StoredPart

# The blocks of a part that are in memory: in the connection's buffer, held back, and on their way to the store.
STREAM_BYTES = 512 * 1024
# Digest algorithms that RFC 9530 registers as active, with their hashlib names.
REPR_DIGESTS = {"sha-256": "sha256", "sha-512": "sha512"}
_DIGEST_ITEM = re.compile(r"\s*([a-z0-9-]+)\s*=\s*:([A-Za-z0-9+/=]*):\s*")


async def receive_part(
    resources: Resources,
    workspace_id: UUID,
    upload_id: UUID,
    *,
    number: int,
    size_bytes: int | None,
    digests: Mapping[str, bytes],
    source: AsyncIterator[bytes],
) -> StoredPart:
    """Store one part, replacing an earlier one with this number; only a few blocks are in memory at a time.

    Raises:
        NotFound, UploadNotPending: there is no such open session.
        PartNumberOutOfRange, PartSizeMismatch: the file has no such part, or the part has a different size.
        Overloaded: no memory for the blocks became free in time.
        DigestMismatch: the bytes do not match the announced digest (the stored part is unchanged) or the store's ETag.
    """
    upload, _s3_upload_id = require_pending(await load_session(resources, workspace_id, upload_id))
    check_part_number(upload, number)
    expected_bytes = upload.size_of_part(number)
    if size_bytes is not None and size_bytes != expected_bytes:
        raise PartSizeMismatch(f"Part {number} must have {expected_bytes} bytes, not {size_bytes}.")
    return await store_part(resources, upload, number=number, size_bytes=expected_bytes, digests=digests, source=source)


async def store_part(
    resources: Resources,
    upload: Upload,
    *,
    number: int,
    size_bytes: int,
    digests: Mapping[str, bytes],
    source: AsyncIterator[bytes],
) -> StoredPart:
    """Stream a part of this size into a pending session; raises like `receive_part`."""
    checked = CheckedSource(source, size_bytes=size_bytes, digests=digests)
    try:
        async with resources.buffers.parts.hold(min(size_bytes, STREAM_BYTES)):
            part = await resources.storage.stream_part(
                upload.bucket,
                upload.object_key,
                upload_id=upload.s3_upload_id or "",
                number=number,
                size_bytes=size_bytes,
                body=checked.blocks(),
            )
    except ObjectMissing:
        raise UploadNotPending("The upload has ended.") from None
    except TransientFailure:
        if checked.refusal is not None:
            # The store is not at fault: the part was wrong, so its last block was withheld.
            raise checked.refusal from None
        raise
    if part.is_md5 and part.etag != checked.md5.hexdigest():
        raise DigestMismatch("The object store received different bytes; send the part again.")
    return part


class CheckedSource:
    """A part's bytes, whose last block is withheld until size and digests are verified.

    The store rejects a part whose body is too short, so a wrong part is never stored.
    """

    def __init__(self, source: AsyncIterator[bytes], *, size_bytes: int, digests: Mapping[str, bytes]) -> None:
        self.md5 = hashlib.md5(usedforsecurity=False)
        # Why `blocks` ended early; kept here because the HTTP client wraps any error that a body raises.
        self.refusal: RequestError | None = None
        self._source = source
        self._size_bytes = size_bytes
        self._digests = digests
        self._hashes: dict[str, _Hash] = {
            name: self.md5 if name == "md5" else hashlib.new(name, usedforsecurity=False) for name in digests
        }

    async def blocks(self) -> AsyncIterator[bytes]:
        """Yield the bytes.

        Raises:
            PartSizeMismatch, DigestMismatch: the bytes do not match what was announced.
        """
        try:
            async for block in self._checked():
                yield block
        except RequestError as refusal:
            self.refusal = refusal
            raise

    async def _checked(self) -> AsyncIterator[bytes]:
        held = b""
        received_bytes = 0
        async for block in self._source:
            received_bytes += len(block)
            if received_bytes > self._size_bytes:
                raise PartSizeMismatch(f"The part must have {self._size_bytes} bytes, but more were sent.")
            for digest in {id(one): one for one in (self.md5, *self._hashes.values())}.values():
                digest.update(block)
            if held:
                yield held
            held = block
        if received_bytes != self._size_bytes:
            raise PartSizeMismatch(f"The part must have {self._size_bytes} bytes, but {received_bytes} were sent.")
        for name, digest in self._hashes.items():
            if digest.digest() != self._digests[name]:
                raise DigestMismatch(f"The received bytes do not match the announced {name} digest.")
        yield held


def read_digests(headers: Mapping[str, str]) -> dict[str, bytes]:
    """Return the digests that Content-MD5 (RFC 1864) and Repr-Digest (RFC 9530) announce, keyed by hashlib name.

    Raises:
        InvalidRequest: a header is malformed, or Repr-Digest has no supported algorithm.
    """
    digests: dict[str, bytes] = {}
    if (content_md5 := headers.get("Content-MD5")) is not None:
        digests["md5"] = _decode(content_md5, name="md5", header="Content-MD5")
    if (repr_digest := headers.get("Repr-Digest")) is not None:
        items = [_DIGEST_ITEM.fullmatch(item) for item in repr_digest.split(",")]
        known = {item[1]: item[2] for item in items if item is not None and item[1] in REPR_DIGESTS}
        if None in items or not known:
            names = " or ".join(REPR_DIGESTS)
            raise InvalidRequest(fields={"Repr-Digest": f"must look like sha-256=:…:, with {names}"})
        for name, value in known.items():
            digests[REPR_DIGESTS[name]] = _decode(value, name=REPR_DIGESTS[name], header="Repr-Digest")
    return digests


def _decode(value: str, *, name: str, header: str) -> bytes:
    try:
        decoded = base64.b64decode(value, validate=True)
    except binascii.Error:
        decoded = b""
    if len(decoded) != hashlib.new(name, usedforsecurity=False).digest_size:
        raise InvalidRequest(fields={header: f"is not a base64-encoded {name} digest"})
    return decoded

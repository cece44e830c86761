"""Streams a part from a client into the store, and lets a wrong one end before the store has taken it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import TYPE_CHECKING

from ragsvc.errors import (
    DigestMismatch,
    InvalidRequest,
    PartSizeMismatch,
    RequestError,
    TransientFailure,
    UploadNotPending,
)
from ragsvc.storage.errors import ObjectMissing
from ragsvc.uploads.sessions import check_part_number, load_session, require_pending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from hashlib import _Hash
    from uuid import UUID

    from ragsvc.resources import Resources
    from ragsvc.storage.objects import StoredPart

# RFC 9530's names of the digests that it registers as active, and hashlib's.
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
    """Store one part, replacing an earlier one of this number; a block of it is in memory at a time.

    Raises:
        NotFound, UploadNotPending: there is no such open session.
        PartNumberOutOfRange, PartSizeMismatch: the file has no such part, or it has another size.
        DigestMismatch: the bytes are not those that the client says, or that the store got; the part is as it was.
    """
    upload, s3_upload_id = require_pending(await load_session(resources, workspace_id, upload_id))
    check_part_number(upload, number)
    expected_bytes = upload.size_of_part(number)
    if size_bytes is not None and size_bytes != expected_bytes:
        raise PartSizeMismatch(f"Part {number} has {expected_bytes} bytes, not {size_bytes}.")
    checked = CheckedSource(source, size_bytes=expected_bytes, digests=digests)
    try:
        part = await resources.storage.stream_part(
            upload.bucket,
            upload.object_key,
            upload_id=s3_upload_id,
            number=number,
            size_bytes=expected_bytes,
            body=checked.blocks(),
        )
    except ObjectMissing:
        raise UploadNotPending("The upload ended meanwhile.") from None
    except TransientFailure:
        if checked.refusal is not None:
            # It was not the store that failed: it was not given the end of a wrong part.
            raise checked.refusal from None
        raise
    if part.is_md5 and part.etag != checked.md5.hexdigest():
        raise DigestMismatch("The store got other bytes than were sent; send the part again.")
    return part


class CheckedSource:
    """A part's bytes. The last block is held back until size and digests are right: the store takes no part whose
    body ends too soon.
    """

    def __init__(self, source: AsyncIterator[bytes], *, size_bytes: int, digests: Mapping[str, bytes]) -> None:
        self.md5 = hashlib.md5(usedforsecurity=False)
        # Why `blocks` ended too soon; the HTTP client in between wraps what a body raises.
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
            PartSizeMismatch, DigestMismatch: they are not what was announced.
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
                raise PartSizeMismatch(f"The part has {self._size_bytes} bytes, and more were sent.")
            for digest in {id(one): one for one in (self.md5, *self._hashes.values())}.values():
                digest.update(block)
            if held:
                yield held
            held = block
        if received_bytes != self._size_bytes:
            raise PartSizeMismatch(f"The part has {self._size_bytes} bytes, and {received_bytes} were sent.")
        for name, digest in self._hashes.items():
            if digest.digest() != self._digests[name]:
                raise DigestMismatch(f"The bytes that arrived have another {name} than was announced.")
        yield held


def read_digests(headers: Mapping[str, str]) -> dict[str, bytes]:
    """Return the digests that Content-MD5 (RFC 1864) and Repr-Digest (RFC 9530) announce, by hashlib's names.

    Raises:
        InvalidRequest: a header is malformed, or names no digest that is known here.
    """
    digests: dict[str, bytes] = {}
    if (content_md5 := headers.get("Content-MD5")) is not None:
        digests["md5"] = _decode(content_md5, name="md5", header="Content-MD5")
    if (repr_digest := headers.get("Repr-Digest")) is not None:
        items = [_DIGEST_ITEM.fullmatch(item) for item in repr_digest.split(",")]
        known = {item[1]: item[2] for item in items if item is not None and item[1] in REPR_DIGESTS}
        if None in items or not known:
            names = " or ".join(REPR_DIGESTS)
            raise InvalidRequest(fields={"Repr-Digest": f"has to be like sha-256=:…:, with {names}"})
        for name, value in known.items():
            digests[REPR_DIGESTS[name]] = _decode(value, name=REPR_DIGESTS[name], header="Repr-Digest")
    return digests


def _decode(value: str, *, name: str, header: str) -> bytes:
    try:
        decoded = base64.b64decode(value, validate=True)
    except binascii.Error:
        decoded = b""
    if len(decoded) != hashlib.new(name, usedforsecurity=False).digest_size:
        raise InvalidRequest(fields={header: f"is not the base64 of a {name} digest"})
    return decoded

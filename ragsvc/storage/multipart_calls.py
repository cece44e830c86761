"""S3 operations on multipart uploads."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from ragsvc.errors.work import TransientFailure
from ragsvc.storage.calls import calling
from ragsvc.storage.clients import OWN_URL_S, PRESIGN_EXPIRES_S, StoreCalls, trying_again
from ragsvc.storage.errors import MISSING, code_in, code_of, refusal, translated
from ragsvc.storage.objects import MultipartUpload, StoredPart

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

LIST_PAGE = 1000
BLOCK_BYTES = 256 * 1024
# With SSE-KMS encryption, ETags are not MD5 digests.
KMS = "aws:kms"


class MultipartCalls(StoreCalls):
    """Creates, fills, lists, completes and aborts multipart uploads."""

    async def create_multipart(self, bucket: str, key: str, *, mime_type: str) -> str:
        """Create a multipart upload and return its upload id."""
        with translated():
            response = await self._client.create_multipart_upload(
                Bucket=bucket, Key=key, ContentType=mime_type, **self._encryption
            )
        return response["UploadId"]

    async def upload_part(
        self, bucket: str, key: str, *, upload_id: str, number: int, body: bytes | Sequence[bytearray]
    ) -> StoredPart:
        """Store one part with an MD5 check; retry when the store fails."""
        blocks = [body] if isinstance(body, bytes) else body
        md5 = await asyncio.to_thread(_md5_of, blocks)
        async for attempt in trying_again():
            with attempt:
                stored = await self.stream_part(
                    bucket,
                    key,
                    upload_id=upload_id,
                    number=number,
                    size_bytes=sum(map(len, blocks)),
                    body=_iterate(blocks),
                    headers={"Content-MD5": md5},
                )
        return stored

    async def stream_part(
        self,
        bucket: str,
        key: str,
        *,
        upload_id: str,
        number: int,
        size_bytes: int,
        body: AsyncIterator[bytes | memoryview],
        headers: Mapping[str, str] | None = None,
    ) -> StoredPart:
        """Stream one part to the store, one block in memory at a time; if `body` raises, nothing is stored.

        The SDK reads a whole part before signing it, so this sends the stream to a presigned URL instead.
        """
        arguments = {"Bucket": bucket, "Key": key, "UploadId": upload_id, "PartNumber": number}
        all_headers = {"Content-Length": str(size_bytes), **(headers or {})}
        with translated():
            url = await self._client.generate_presigned_url("upload_part", Params=arguments, ExpiresIn=OWN_URL_S)
            with calling("UploadPart") as call:
                async with asyncio.timeout(None) as store_timeout:
                    blocks = _limit_store_silence(body, store_timeout, timeout_s=self._settings.stores.s3_timeout_s)
                    async with self._http.put(url, data=blocks, headers=all_headers) as response:
                        response_text = await response.text()
                call.end(response.status)
        if not response.ok:
            raise _part_refusal(response_text, response.status)
        is_md5 = not response.headers.get("x-amz-server-side-encryption", "").startswith(KMS)
        return StoredPart(number, size_bytes, response.headers["ETag"].strip('"'), is_md5=is_md5)

    async def presign_part(
        self, bucket: str, key: str, *, upload_id: str, number: int, size_bytes: int | None = None
    ) -> str:
        """Return a public URL for sending this part within PRESIGN_EXPIRES_S seconds; a size, if given, is enforced."""
        arguments = {"Bucket": bucket, "Key": key, "UploadId": upload_id, "PartNumber": number}
        if size_bytes is not None:
            arguments["ContentLength"] = size_bytes
        with translated():
            return await self._presigner.generate_presigned_url(
                "upload_part", Params=arguments, ExpiresIn=PRESIGN_EXPIRES_S
            )

    async def list_parts(self, bucket: str, key: str, *, upload_id: str) -> list[StoredPart]:
        """Return the stored parts of an upload, ordered by number."""
        parts: list[StoredPart] = []
        marker = 0
        with translated():
            while True:
                page = await self._client.list_parts(
                    Bucket=bucket, Key=key, UploadId=upload_id, PartNumberMarker=marker
                )
                found = page.get("Parts", [])
                parts += [StoredPart(part["PartNumber"], part["Size"], part["ETag"].strip('"')) for part in found]
                if not page.get("IsTruncated") or not found:
                    return parts
                marker = found[-1]["PartNumber"]

    async def complete_multipart(self, bucket: str, key: str, *, upload_id: str, parts: Sequence[StoredPart]) -> str:
        """Join the parts into one object and return its ETag."""
        with translated():
            response = await self._client.complete_multipart_upload(
                Bucket=bucket,
                Key=key,
                UploadId=upload_id,
                MultipartUpload={"Parts": [{"PartNumber": part.number, "ETag": part.etag} for part in parts]},
            )
        return response["ETag"].strip('"')

    async def abort_multipart(self, bucket: str, key: str, *, upload_id: str) -> None:
        """Abort an upload and delete its parts; does nothing if there is none."""
        with translated():
            try:
                await self._client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
            except ClientError as error:
                if code_of(error) not in MISSING:
                    raise

    async def list_multiparts(
        self, bucket: str, *, prefix: str = "", page_size: int = LIST_PAGE
    ) -> list[MultipartUpload]:
        """Return all unfinished uploads under a prefix, requesting `page_size` at a time."""
        found: dict[str, MultipartUpload] = {}
        after: dict[str, Any] = {}
        with translated():
            while True:
                page = await self._client.list_multipart_uploads(
                    Bucket=bucket, Prefix=prefix, MaxUploads=page_size, **after
                )
                uploads = [
                    MultipartUpload(upload["Key"], upload["UploadId"], upload["Initiated"])
                    for upload in page.get("Uploads", [])
                ]
                fresh = {upload.upload_id: upload for upload in uploads if upload.upload_id not in found}
                found |= fresh
                # A store with broken paging repeats a page; stop instead of looping forever.
                if not page.get("IsTruncated") or not fresh:
                    return list(found.values())
                last = uploads[-1]
                after = {
                    "KeyMarker": page.get("NextKeyMarker") or last.object_key,
                    "UploadIdMarker": page.get("NextUploadIdMarker") or last.upload_id,
                }


def _part_refusal(response_text: str, status: int) -> Exception:
    """Return the exception for an error response to a part."""
    code = code_in(response_text)
    if code == "NoSuchKey":
        # JuiceFS returns this when its disk is full; a missing upload has a different code.
        return TransientFailure("storage_unavailable", f"the object store returned {code} for a part")
    return refusal(code, status)


def _md5_of(blocks: Sequence[bytes | bytearray]) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for block in blocks:
        digest.update(block)
    return base64.b64encode(digest.digest()).decode()


async def _iterate(blocks: Sequence[bytes | bytearray]) -> AsyncIterator[memoryview]:
    for block in blocks:
        for start in range(0, len(block), BLOCK_BYTES):
            yield memoryview(block)[start : start + BLOCK_BYTES]


async def _limit_store_silence(
    blocks: AsyncIterator[bytes | memoryview], store_timeout: asyncio.Timeout, *, timeout_s: float
) -> AsyncIterator[bytes | memoryview]:
    """Yield the blocks and limit how long the store takes to consume each, but not how long the source takes."""
    now = asyncio.get_running_loop().time
    async for block in blocks:
        store_timeout.reschedule(now() + timeout_s)
        yield block
        store_timeout.reschedule(None)

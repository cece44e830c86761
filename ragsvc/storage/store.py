"""The store's client: every call to S3."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aioboto3
import aiohttp
from botocore.config import Config
from botocore.exceptions import ClientError

from ragsvc.errors import TransientFailure
from ragsvc.storage.calls import calling, watch_calls
from ragsvc.storage.failures import MISSING, ObjectMissing, code_of, refusal, translated
from ragsvc.storage.objects import ListedObject, MultipartUpload, ObjectBody, StoredObject, StoredPart

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from aiobotocore.response import StreamingBody
    from types_aiobotocore_s3.client import S3Client
    from types_aiobotocore_s3.type_defs import ObjectIdentifierTypeDef

    from ragsvc.settings import Settings

READ_BLOCK_BYTES = 1024 * 1024
DELETE_BATCH = 1000
LIST_PAGE = 1000
CONNECT_TIMEOUT_S = 3
# Used at once, and a slow client may take long with the part itself.
OWN_URL_S = 24 * 3600
_ERROR_CODE = re.compile("<Code>([^<]*)</Code>")


class Storage:
    """The store. Every method raises ObjectMissing, ProviderRejected, TransientFailure or OutageFailure."""

    def __init__(self, client: S3Client, presigner: S3Client, http: aiohttp.ClientSession, settings: Settings) -> None:
        self._client = client
        self._presigner = presigner
        self._http = http
        self._settings = settings
        self._encryption = _encryption_of(settings)

    async def ping(self) -> None:
        """Ask the store for a sign of life."""
        with translated():
            await self._client.list_buckets(MaxBuckets=1)

    async def create_bucket(self, bucket: str) -> None:
        """Create the bucket; one that is already ours is fine."""
        region = self._settings.s3_region
        arguments: dict[str, Any] = {"Bucket": bucket}
        if region != "us-east-1":  # which S3 refuses to hear named
            arguments["CreateBucketConfiguration"] = {"LocationConstraint": region}
        with translated():
            try:
                await self._client.create_bucket(**arguments)
            except ClientError as error:
                if code_of(error) != "BucketAlreadyOwnedByYou":
                    raise

    async def delete_bucket(self, bucket: str) -> None:
        """Remove an empty bucket; one that is gone is fine."""
        with translated():
            try:
                await self._client.delete_bucket(Bucket=bucket)
            except ClientError as error:
                if code_of(error) not in MISSING:
                    raise

    async def create_multipart(self, bucket: str, key: str, *, mime_type: str) -> str:
        """Begin a multipart upload and return the store's id of it."""
        with translated():
            answer = await self._client.create_multipart_upload(
                Bucket=bucket, Key=key, ContentType=mime_type, **self._encryption
            )
        return answer["UploadId"]

    async def upload_part(self, bucket: str, key: str, *, upload_id: str, number: int, body: bytes) -> StoredPart:
        """Store one part, checked by its MD5 on the way."""
        digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        with translated():
            answer = await self._client.upload_part(
                Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=body, ContentMD5=digest
            )
        return StoredPart(number, len(body), answer["ETag"].strip('"'))

    async def stream_part(
        self, bucket: str, key: str, *, upload_id: str, number: int, size_bytes: int, body: AsyncIterator[bytes]
    ) -> StoredPart:
        """Store one part as it comes, with a block of it in memory; what `body` raises leaves the part as it was.

        The SDK reads a part as a whole before it signs it; a URL presigned for ourselves takes a stream.
        """
        arguments = {"Bucket": bucket, "Key": key, "UploadId": upload_id, "PartNumber": number}
        with translated():
            url = await self._client.generate_presigned_url("upload_part", Params=arguments, ExpiresIn=OWN_URL_S)
            with calling("UploadPart") as call:
                async with self._http.put(url, data=body, headers={"Content-Length": str(size_bytes)}) as answer:
                    said = await answer.text()
                call.end(answer.status)
            if not answer.ok:
                found = _ERROR_CODE.search(said)
                raise refusal(found[1] if found else "no code", answer.status)
            return StoredPart(number, size_bytes, answer.headers["ETag"].strip('"'))

    async def presign_part(self, bucket: str, key: str, *, upload_id: str, number: int) -> str:
        """Return a URL that lets anybody put this part for PRESIGN_EXPIRES_S seconds."""
        arguments = {"Bucket": bucket, "Key": key, "UploadId": upload_id, "PartNumber": number}
        with translated():
            return await self._presigner.generate_presigned_url(
                "upload_part", Params=arguments, ExpiresIn=self._settings.presign_expires_s
            )

    async def list_parts(self, bucket: str, key: str, *, upload_id: str) -> list[StoredPart]:
        """Return the parts that the store has of an upload, by number."""
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

    async def head_object(self, bucket: str, key: str) -> StoredObject:
        """Return what the store says of an object."""
        with translated():
            answer = await self._client.head_object(Bucket=bucket, Key=key)
        return StoredObject(answer["ContentLength"], answer["ETag"].strip('"'), answer.get("Metadata", {}))

    async def complete_multipart(self, bucket: str, key: str, *, upload_id: str, parts: Sequence[StoredPart]) -> str:
        """Make the parts one object and return its ETag."""
        with translated():
            answer = await self._client.complete_multipart_upload(
                Bucket=bucket,
                Key=key,
                UploadId=upload_id,
                MultipartUpload={"Parts": [{"PartNumber": part.number, "ETag": part.etag} for part in parts]},
            )
        return answer["ETag"].strip('"')

    async def abort_multipart(self, bucket: str, key: str, *, upload_id: str) -> None:
        """Drop an upload and its parts; one that is gone is fine."""
        with translated():
            try:
                await self._client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
            except ClientError as error:
                if code_of(error) not in MISSING:
                    raise

    async def list_multiparts(
        self, bucket: str, *, prefix: str = "", page_size: int = LIST_PAGE
    ) -> list[MultipartUpload]:
        """Return all uploads in the making under a prefix, asked for by pages."""
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
                # A store that does not page truly says the same again; that must not go on for ever.
                if not page.get("IsTruncated") or not fresh:
                    return list(found.values())
                last = uploads[-1]
                after = {
                    "KeyMarker": page.get("NextKeyMarker") or last.object_key,
                    "UploadIdMarker": page.get("NextUploadIdMarker") or last.upload_id,
                }

    async def list_objects(
        self, bucket: str, *, prefix: str = "", after: str = "", page_size: int = LIST_PAGE
    ) -> list[ListedObject]:
        """Return the objects under a prefix whose keys come after one, by key; fewer than `page_size` are the last."""
        with translated():
            page = await self._client.list_objects_v2(Bucket=bucket, Prefix=prefix, StartAfter=after, MaxKeys=page_size)
        return [ListedObject(entry["Key"], entry["Size"], entry["LastModified"]) for entry in page.get("Contents", [])]

    async def put_object(self, bucket: str, key: str, *, body: bytes, metadata: Mapping[str, str]) -> None:
        """Store a small object at once, in place of an earlier one, checked by its MD5 on the way."""
        digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        with translated():
            await self._client.put_object(
                Bucket=bucket, Key=key, Body=body, ContentMD5=digest, Metadata=metadata, **self._encryption
            )

    async def delete_object(self, bucket: str, key: str) -> bool:
        """Remove an object; False when there was none."""
        existed = await self.object_exists(bucket, key)
        if existed:
            with translated():
                await self._client.delete_object(Bucket=bucket, Key=key)
        return existed

    async def delete_all_objects(self, bucket: str, *, prefix: str = "") -> None:
        """Remove all objects under a prefix, unfinished uploads included; a bucket that is gone is fine.

        Raises:
            TransientFailure: the store keeps some.
        """
        with suppress(ObjectMissing), translated():
            while uploads := await self.list_multiparts(bucket, prefix=prefix):
                for upload in uploads:
                    await self.abort_multipart(bucket, upload.object_key, upload_id=upload.upload_id)
            before: list[str] = []
            while keys := await self._first_keys(bucket, prefix=prefix):
                if keys == before:
                    raise TransientFailure("storage_incomplete", f"the store does not remove {keys[0]}")
                await self._delete_keys(bucket, keys)
                before = keys

    async def _first_keys(self, bucket: str, *, prefix: str) -> list[str]:
        page = await self._client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=DELETE_BATCH)
        return [entry["Key"] for entry in page.get("Contents", [])]

    async def _delete_keys(self, bucket: str, keys: list[str]) -> None:
        objects: list[ObjectIdentifierTypeDef] = [{"Key": key} for key in keys if not key.endswith("/")]
        if objects:
            await self._client.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
        # Stores on file systems list a folder once it is empty, and remove it only when it is named alone.
        for key in keys:
            if key.endswith("/"):
                await self._client.delete_object(Bucket=bucket, Key=key)

    async def count_objects(self, bucket: str, *, prefix: str = "") -> int:
        """Return how many objects there are under a prefix, up to 1000; none where there is no bucket."""
        try:
            with translated():
                page = await self._client.list_objects_v2(Bucket=bucket, Prefix=prefix)
        except ObjectMissing:
            return 0
        return page["KeyCount"]

    async def count_all_objects(self, bucket: str, *, prefix: str = "") -> int:
        """Return how many objects there are under a prefix; none where there is no bucket."""
        count, after = 0, ""
        while True:
            try:
                page = await self.list_objects(bucket, prefix=prefix, after=after, page_size=DELETE_BATCH)
            except ObjectMissing:
                return count
            count += sum(not one.object_key.endswith("/") for one in page)
            if len(page) < DELETE_BATCH:
                return count
            after = page[-1].object_key

    async def object_exists(self, bucket: str, key: str) -> bool:
        """Tell whether the store has the object."""
        try:
            await self.head_object(bucket, key)
        except ObjectMissing:
            return False
        return True

    @asynccontextmanager
    async def open_object(
        self, bucket: str, key: str, *, byte_range: tuple[int, int] | None = None
    ) -> AsyncIterator[ObjectBody]:
        """Read an object, or its bytes from `byte_range[0]` to `byte_range[1]`, both included."""
        arguments: dict[str, Any] = {"Bucket": bucket, "Key": key}
        if byte_range is not None:
            arguments["Range"] = f"bytes={byte_range[0]}-{byte_range[1]}"
        with translated():
            answer = await self._client.get_object(**arguments)
        body = answer["Body"]
        async with body:
            yield ObjectBody(answer["ContentLength"], _read_blocks(body))

    async def presign_get(self, bucket: str, key: str, *, filename: str) -> str:
        """Return a URL that lets anybody download the object under this name for PRESIGN_EXPIRES_S seconds."""
        disposition = f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
        with translated():
            return await self._presigner.generate_presigned_url(
                "get_object",
                Params={"Bucket": bucket, "Key": key, "ResponseContentDisposition": disposition},
                ExpiresIn=self._settings.presign_expires_s,
            )


@asynccontextmanager
async def open_storage(settings: Settings) -> AsyncIterator[Storage]:
    """Open the process's client; the store is reached when it is first used."""
    secret = settings.s3_secret_access_key
    arguments: dict[str, Any] = {
        "region_name": settings.s3_region,
        "aws_access_key_id": settings.s3_access_key_id,
        "aws_secret_access_key": secret.get_secret_value() if secret else None,
        "config": Config(
            signature_version="s3v4",
            s3={"addressing_style": settings.s3_addressing_style},
            retries={"mode": "standard", "max_attempts": 3},
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=settings.s3_timeout_s,
            max_pool_connections=64,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    }
    endpoint = settings.s3_endpoint_url
    public = settings.s3_public_endpoint_url or endpoint
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(_session().client("s3", endpoint_url=endpoint, **arguments))
        presigner = client
        if public != endpoint:
            presigner = await stack.enter_async_context(_session().client("s3", endpoint_url=public, **arguments))
        watch_calls(client)
        # Some stores ask for Content-MD5 here, which newer SDKs replaced by other checksums.
        client.meta.events.register("before-sign.s3.DeleteObjects", _add_content_md5)
        # No limit for the whole: a part is as slow as its client, and the store's own silence ends it.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=settings.s3_timeout_s)
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        yield Storage(client, presigner, http, settings)


def _encryption_of(settings: Settings) -> dict[str, Any]:
    """Return what a new object is asked to be encrypted with; its parts follow it."""
    asked = {"ServerSideEncryption": settings.s3_sse, "SSEKMSKeyId": settings.s3_sse_kms_key_id}
    return {name: value for name, value in asked.items() if value is not None}


@functools.cache
def _session() -> aioboto3.Session:
    # Reading the service's description takes a tenth of a second, and a session does it once.
    return aioboto3.Session()


async def _read_blocks(body: StreamingBody) -> AsyncIterator[bytes]:
    with translated():
        async for block in body.iter_chunks(READ_BLOCK_BYTES):
            yield block


def _add_content_md5(request: Any, **_context: object) -> None:  # noqa: ANN401 - botocore's AWSRequest has no type
    digest = hashlib.md5(request.body, usedforsecurity=False).digest()
    request.headers["Content-MD5"] = base64.b64encode(digest).decode()

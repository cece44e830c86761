"""The object store: every call to S3, through one client for the life of the process."""

from __future__ import annotations

import base64
import functools
import hashlib
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aioboto3
from aiohttp import ClientPayloadError
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)

from ragsvc.errors import OutageFailure, ProviderRejected, TransientFailure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from aiobotocore.response import StreamingBody
    from types_aiobotocore_s3.client import S3Client

    from ragsvc.settings import Settings

READ_BLOCK_BYTES = 1024 * 1024
DELETE_BATCH = 1000
RETRYABLE_STATUS = {429, *range(500, 600)}
MISSING = {"NoSuchKey", "NoSuchBucket", "NoSuchUpload", "404", "NotFound"}


@dataclass(frozen=True, slots=True)
class ObjectBody:
    """An object being read: its length, and its bytes in blocks of at most 1 MiB."""

    size_bytes: int
    blocks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part that the store has acknowledged."""

    number: int
    etag: str


@dataclass(frozen=True, slots=True)
class MultipartUpload:
    """A multipart upload as the store lists it."""

    object_key: str
    upload_id: str


class ObjectMissing(ProviderRejected):
    """The object, bucket or upload is not in the store."""


class Storage:
    """The store. Every method raises ObjectMissing, ProviderRejected, TransientFailure or OutageFailure."""

    def __init__(self, client: S3Client, presigner: S3Client, settings: Settings) -> None:
        self._client = client
        self._presigner = presigner
        self._settings = settings

    async def ping(self) -> None:
        """Ask the store for a sign of life."""
        with _translated():
            await self._client.list_buckets(MaxBuckets=1)

    async def create_bucket(self, bucket: str) -> None:
        """Create the bucket; one that is already ours is fine."""
        region = self._settings.s3_region
        arguments: dict[str, Any] = {"Bucket": bucket}
        if region != "us-east-1":  # which S3 refuses to hear named
            arguments["CreateBucketConfiguration"] = {"LocationConstraint": region}
        with _translated():
            try:
                await self._client.create_bucket(**arguments)
            except ClientError as error:
                if _code(error) != "BucketAlreadyOwnedByYou":
                    raise

    async def delete_bucket(self, bucket: str) -> None:
        """Remove an empty bucket; one that is gone is fine."""
        with _translated():
            try:
                await self._client.delete_bucket(Bucket=bucket)
            except ClientError as error:
                if _code(error) not in MISSING:
                    raise

    async def create_multipart(self, bucket: str, key: str, *, mime_type: str) -> str:
        """Begin a multipart upload and return the store's id of it."""
        with _translated():
            answer = await self._client.create_multipart_upload(Bucket=bucket, Key=key, ContentType=mime_type)
        return answer["UploadId"]

    async def upload_part(self, bucket: str, key: str, *, upload_id: str, number: int, body: bytes) -> StoredPart:
        """Store one part, checked by its MD5 on the way."""
        digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        with _translated():
            answer = await self._client.upload_part(
                Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=body, ContentMD5=digest
            )
        return StoredPart(number, answer["ETag"])

    async def complete_multipart(self, bucket: str, key: str, *, upload_id: str, parts: Sequence[StoredPart]) -> str:
        """Make the parts one object and return its ETag."""
        with _translated():
            answer = await self._client.complete_multipart_upload(
                Bucket=bucket,
                Key=key,
                UploadId=upload_id,
                MultipartUpload={"Parts": [{"PartNumber": part.number, "ETag": part.etag} for part in parts]},
            )
        return answer["ETag"]

    async def abort_multipart(self, bucket: str, key: str, *, upload_id: str) -> None:
        """Drop an upload and its parts; one that is gone is fine."""
        with _translated():
            try:
                await self._client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
            except ClientError as error:
                if _code(error) not in MISSING:
                    raise

    async def list_multiparts(self, bucket: str, *, prefix: str = "") -> list[MultipartUpload]:
        """Return the uploads in the making under a prefix, at most 1000 of them."""
        with _translated():
            answer = await self._client.list_multipart_uploads(Bucket=bucket, Prefix=prefix)
        return [MultipartUpload(upload["Key"], upload["UploadId"]) for upload in answer.get("Uploads", [])]

    async def delete_object(self, bucket: str, key: str) -> bool:
        """Remove an object; False when there was none."""
        existed = await self.object_exists(bucket, key)
        if existed:
            with _translated():
                await self._client.delete_object(Bucket=bucket, Key=key)
        return existed

    async def delete_all_objects(self, bucket: str) -> int:
        """Empty the bucket, unfinished uploads included, and return how many objects there were."""
        removed = 0
        with _translated():
            while uploads := await self.list_multiparts(bucket):
                for upload in uploads:
                    await self.abort_multipart(bucket, upload.object_key, upload_id=upload.upload_id)
            while True:
                page = await self._client.list_objects_v2(Bucket=bucket, MaxKeys=DELETE_BATCH)
                keys = [{"Key": entry["Key"]} for entry in page.get("Contents", [])]
                if not keys:
                    return removed
                await self._client.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})  # type: ignore[typeddict-item]
                removed += len(keys)

    async def count_objects(self, bucket: str, *, prefix: str = "") -> int:
        """Return how many objects there are under a prefix, up to 1000; none where there is no bucket."""
        try:
            with _translated():
                page = await self._client.list_objects_v2(Bucket=bucket, Prefix=prefix)
        except ObjectMissing:
            return 0
        return page["KeyCount"]

    async def object_exists(self, bucket: str, key: str) -> bool:
        """Tell whether the store has the object."""
        try:
            with _translated():
                await self._client.head_object(Bucket=bucket, Key=key)
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
        with _translated():
            answer = await self._client.get_object(**arguments)
        body = answer["Body"]
        async with body:
            yield ObjectBody(answer["ContentLength"], _read_blocks(body))

    async def presign_get(self, bucket: str, key: str, *, filename: str) -> str:
        """Return a URL that lets anybody download the object under this name for PRESIGN_EXPIRES_S seconds."""
        disposition = f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
        with _translated():
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
            connect_timeout=3,
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
        # Some stores ask for Content-MD5 here, which newer SDKs replaced by other checksums.
        client.meta.events.register("before-sign.s3.DeleteObjects", _add_content_md5)
        yield Storage(client, presigner, settings)


@functools.cache
def _session() -> aioboto3.Session:
    # Reading the service's description takes a tenth of a second, and a session does it once.
    return aioboto3.Session()


async def _read_blocks(body: StreamingBody) -> AsyncIterator[bytes]:
    with _translated():
        async for block in body.iter_chunks(READ_BLOCK_BYTES):
            yield block


def _add_content_md5(request: Any, **_context: object) -> None:  # noqa: ANN401 - botocore's AWSRequest has no type
    digest = hashlib.md5(request.body, usedforsecurity=False).digest()
    request.headers["Content-MD5"] = base64.b64encode(digest).decode()


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the client's errors into ours."""
    try:
        yield
    except ClientError as error:
        raise _from_answer(error) from error
    except (EndpointConnectionError, BotoConnectionError) as error:
        raise OutageFailure("storage_unreachable", "the object store cannot be reached") from error
    except (BotoCoreError, ClientPayloadError, OSError) as error:
        message = str(error) or type(error).__name__
        raise TransientFailure("storage_unavailable", f"the object store failed: {message}") from error


def _from_answer(error: ClientError) -> ObjectMissing | ProviderRejected | TransientFailure:
    code = _code(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
    if code in MISSING:
        return ObjectMissing("object_missing", f"the store has no such object ({code})", http_status=status)
    if status in RETRYABLE_STATUS or code in {"SlowDown", "RequestTimeout", "InternalError"}:
        return TransientFailure("storage_unavailable", f"the object store answered {code}", http_status=status)
    return ProviderRejected("storage_rejected", f"the object store answered {code}", http_status=status)

"""The Storage class, which combines all calls to the object store."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from ragsvc.errors.work import TransientFailure
from ragsvc.storage.bucket_calls import BucketCalls
from ragsvc.storage.clients import open_clients
from ragsvc.storage.errors import ObjectMissing, translated
from ragsvc.storage.multipart_calls import MultipartCalls
from ragsvc.storage.object_calls import DELETE_BATCH
from ragsvc.storage.version_calls import VersionCalls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from types_aiobotocore_s3.type_defs import ObjectIdentifierTypeDef

    from ragsvc.settings.settings import Settings


class Storage(BucketCalls, MultipartCalls, VersionCalls):
    """The object store. All methods can raise ObjectMissing, ProviderRejected, TransientFailure or OutageFailure."""

    async def delete_all_objects(self, bucket: str, *, prefix: str = "") -> None:
        """Delete all objects with their versions, and unfinished uploads, under a prefix.

        Does nothing if there is no bucket.

        Raises:
            TransientFailure: the store did not delete some of the objects.
        """
        with suppress(ObjectMissing), translated():
            while uploads := await self.list_multiparts(bucket, prefix=prefix):
                for upload in uploads:
                    await self.abort_multipart(bucket, upload.object_key, upload_id=upload.upload_id)
            before: list[str] = []
            while keys := await self._first_keys(bucket, prefix=prefix):
                if keys == before:
                    raise TransientFailure("storage_incomplete", f"the store does not delete {keys[0]}")
                await self._delete_keys(bucket, keys)
                before = keys
            if await self.keeps_versions(bucket):
                await self.delete_versions(bucket, prefix=prefix)

    async def _first_keys(self, bucket: str, *, prefix: str) -> list[str]:
        page = await self._client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=DELETE_BATCH)
        return [entry["Key"] for entry in page.get("Contents", [])]

    async def _delete_keys(self, bucket: str, keys: list[str]) -> None:
        objects: list[ObjectIdentifierTypeDef] = [{"Key": key} for key in keys if not key.endswith("/")]
        if objects:
            await self._client.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
        # Stores built on a file system list empty folders, and delete a folder only in a request for that single key.
        for key in keys:
            if key.endswith("/"):
                await self._client.delete_object(Bucket=bucket, Key=key)


@asynccontextmanager
async def open_storage(settings: Settings) -> AsyncIterator[Storage]:
    """Open the process's store clients; they connect on first use."""
    async with open_clients(settings) as clients:
        yield Storage(clients, settings)

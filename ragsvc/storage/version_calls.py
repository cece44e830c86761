"""S3 operations that remove objects for good: many at a time, and with all versions if the bucket keeps versions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from ragsvc.errors.work import TransientFailure
from ragsvc.storage.errors import MISSING, ObjectMissing, code_of, translated
from ragsvc.storage.object_calls import DELETE_BATCH, ObjectCalls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from types_aiobotocore_s3.type_defs import ObjectIdentifierTypeDef

# Calls that one deletion makes at once.
CONCURRENT_CALLS = 16
# Stores that keep no versions answer with one of these.
UNVERSIONED = {*MISSING, "NotImplemented", "MethodNotAllowed"}
REFUSED = {"AccessDenied", "AllAccessDisabled", "UnauthorizedAccess"}


class VersionCalls(ObjectCalls):
    """Removes objects with their versions, and looks whether any remain."""

    async def keeps_versions(self, bucket: str) -> bool | None:
        """Return whether the bucket keeps, or has kept, versions of deleted objects; None if it may not be asked."""
        try:
            found = await self._client.get_bucket_versioning(Bucket=bucket)
        except ClientError as error:
            if code_of(error) in UNVERSIONED:
                return False
            if code_of(error) in REFUSED:
                return None
            with translated():
                raise
        return bool(found.get("Status"))

    async def select_existing(self, bucket: str, keys: Sequence[str]) -> set[str]:
        """Return those of the keys under which the store has an object or a version of one."""
        calls = asyncio.Semaphore(CONCURRENT_CALLS)
        is_versioned = await self.keeps_versions(bucket)

        async def exists(key: str) -> bool:
            async with calls:
                if is_versioned and await self._list_versions(bucket, prefix=key, key=key):
                    return True
                return await self.object_exists(bucket, key)

        found = await asyncio.gather(*(exists(key) for key in keys))
        return {key for key, is_there in zip(keys, found, strict=True) if is_there}

    async def delete_objects(self, bucket: str, keys: Sequence[str]) -> None:
        """Delete objects with all their versions; does nothing for those that do not exist.

        One call for each object, since stores built on a file system remove the empty folder of an object only then.
        """
        calls = asyncio.Semaphore(CONCURRENT_CALLS)
        is_versioned = await self.keeps_versions(bucket)

        async def delete(key: str) -> None:
            async with calls:
                if is_versioned:
                    await self.delete_versions(bucket, prefix=key, key=key)
                else:
                    await self.delete_object(bucket, key)

        await asyncio.gather(*(delete(key) for key in keys))

    async def delete_versions(self, bucket: str, *, prefix: str, key: str | None = None) -> None:
        """Delete all versions and deletion marks under a prefix, or only those of one key."""
        while versions := await self._list_versions(bucket, prefix=prefix, key=key):
            await self._delete(bucket, versions)

    async def count_versions(self, bucket: str, *, prefix: str) -> int:
        """Return how many versions and deletion marks there are under a prefix, up to DELETE_BATCH."""
        return len(await self._list_versions(bucket, prefix=prefix))

    async def _delete(self, bucket: str, objects: list[ObjectIdentifierTypeDef]) -> None:
        with translated():
            reply = await self._client.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
        if errors := [error for error in reply.get("Errors", ()) if error.get("Code") not in MISSING]:
            # For example a lock on the object.
            raise TransientFailure("storage_incomplete", f"the store does not delete: {errors[0].get('Code')}")

    async def _list_versions(
        self, bucket: str, *, prefix: str, key: str | None = None
    ) -> list[ObjectIdentifierTypeDef]:
        try:
            with translated():
                page = await self._client.list_object_versions(Bucket=bucket, Prefix=prefix, MaxKeys=DELETE_BATCH)
        except ObjectMissing:
            return []
        found: list[ObjectIdentifierTypeDef] = [
            {"Key": entry["Key"], "VersionId": entry["VersionId"]}
            for entry in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
        ]
        return [one for one in found if key is None or one["Key"] == key]

"""S3 operations on complete objects."""

from __future__ import annotations

import base64
import hashlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

from ragsvc.storage.calls import calling
from ragsvc.storage.clients import OWN_URL_S, PRESIGN_EXPIRES_S, StoreCalls, trying_again
from ragsvc.storage.errors import ObjectMissing, code_in, refusal, translated
from ragsvc.storage.objects import ListedObject, ObjectBody, StoredObject

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import aiohttp

READ_BLOCK_BYTES = 256 * 1024
DELETE_BATCH = 1000
LIST_PAGE = 1000


class ObjectCalls(StoreCalls):
    """Reads, writes, lists and deletes objects."""

    async def head_object(self, bucket: str, key: str) -> StoredObject:
        """Return the size, ETag and metadata of an object.

        While an object is being replaced, file-system gateways briefly return it without its ETag and metadata.
        """
        with translated():
            response = await self._client.head_object(Bucket=bucket, Key=key)
        return StoredObject(
            response["ContentLength"], response.get("ETag", "").strip('"'), response.get("Metadata", {})
        )

    async def count_all_objects(self, bucket: str, *, prefix: str = "") -> int:
        """Return how many objects there are under a prefix; 0 if there is no bucket."""
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
        """Return whether the store has the object."""
        try:
            await self.head_object(bucket, key)
        except ObjectMissing:
            return False
        return True

    @asynccontextmanager
    async def open_object(
        self, bucket: str, key: str, *, byte_range: tuple[int, int] | None = None
    ) -> AsyncIterator[ObjectBody]:
        """Open an object for reading: all of it, or bytes `byte_range[0]` to `byte_range[1]`, both inclusive.

        A slow reader takes as long as it likes, so this does not use one of the SDK's few connections.
        """
        headers = {"Range": f"bytes={byte_range[0]}-{byte_range[1]}"} if byte_range is not None else {}
        async for attempt in trying_again():
            with attempt:
                response = await self._get(bucket, key, headers=headers)
        async with response:
            yield ObjectBody(response.content_length or 0, _read_blocks(response))

    async def _get(self, bucket: str, key: str, *, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        with translated():
            url = await self._client.generate_presigned_url(
                "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=OWN_URL_S
            )
            with calling("GetObject") as call:
                response = await self._http.get(url, headers=headers)
            call.end(response.status)
            if response.ok:
                return response
            async with response:
                raise refusal(code_in(await response.text()), response.status)

    async def presign_get(self, bucket: str, key: str, *, filename: str) -> str:
        """Return a public URL for downloading the object under this name within PRESIGN_EXPIRES_S seconds."""
        disposition = f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
        with translated():
            return await self._presigner.generate_presigned_url(
                "get_object",
                Params={"Bucket": bucket, "Key": key, "ResponseContentDisposition": disposition},
                ExpiresIn=PRESIGN_EXPIRES_S,
            )

    async def put_object(self, bucket: str, key: str, *, body: bytes, metadata: Mapping[str, str]) -> None:
        """Store a small object with an MD5 check, atomically replacing an earlier one."""
        digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        with translated():
            await self._client.put_object(
                Bucket=bucket, Key=key, Body=body, ContentMD5=digest, Metadata=metadata, **self._encryption
            )

    async def list_objects(
        self, bucket: str, *, prefix: str = "", after: str = "", page_size: int = LIST_PAGE
    ) -> list[ListedObject]:
        """Return a page of objects under a prefix with keys after `after`, ordered by key; a short page is the last."""
        with translated():
            page = await self._client.list_objects_v2(Bucket=bucket, Prefix=prefix, StartAfter=after, MaxKeys=page_size)
        return [ListedObject(entry["Key"], entry["Size"], entry["LastModified"]) for entry in page.get("Contents", [])]

    async def count_objects(self, bucket: str, *, prefix: str = "") -> int:
        """Return how many objects there are under a prefix, up to 1000; 0 if there is no bucket."""
        try:
            with translated():
                page = await self._client.list_objects_v2(Bucket=bucket, Prefix=prefix)
        except ObjectMissing:
            return 0
        return page["KeyCount"]

    async def delete_object(self, bucket: str, key: str) -> bool:
        """Delete an object and return whether it existed."""
        existed = await self.object_exists(bucket, key)
        if existed:
            with translated():
                await self._client.delete_object(Bucket=bucket, Key=key)
        return existed


async def _read_blocks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    with translated():
        async for block in response.content.iter_chunked(READ_BLOCK_BYTES):
            yield block

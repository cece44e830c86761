"""S3 operations on buckets."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from ragsvc.storage.clients import StoreCalls
from ragsvc.storage.errors import MISSING, code_of, translated


class BucketCalls(StoreCalls):
    """Creates and deletes buckets."""

    async def ping(self) -> None:
        """Check that the store responds."""
        with translated():
            await self._client.list_buckets(MaxBuckets=1)

    async def create_bucket(self, bucket: str) -> None:
        """Create the bucket; does nothing if this account already owns it."""
        region = self._settings.stores.s3_region
        arguments: dict[str, Any] = {"Bucket": bucket}
        if region != "us-east-1":  # S3 rejects its default region as a location constraint
            arguments["CreateBucketConfiguration"] = {"LocationConstraint": region}
        with translated():
            try:
                await self._client.create_bucket(**arguments)
            except ClientError as error:
                if code_of(error) != "BucketAlreadyOwnedByYou":
                    raise

    async def delete_bucket(self, bucket: str) -> None:
        """Delete an empty bucket; does nothing if there is none."""
        with translated():
            try:
                await self._client.delete_bucket(Bucket=bucket)
            except ClientError as error:
                if code_of(error) not in MISSING:
                    raise

"""Calls for buckets."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from ragsvc.storage.clients import StoreCalls
from ragsvc.storage.errors import MISSING, code_of, translated


class BucketCalls(StoreCalls):
    """Makes and removes buckets."""

    async def ping(self) -> None:
        """Ask the store for a sign of life."""
        with translated():
            await self._client.list_buckets(MaxBuckets=1)

    async def create_bucket(self, bucket: str) -> None:
        """Create the bucket; one that is already ours is fine."""
        region = self._settings.stores.s3_region
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

"""The object store retains acknowledged writes, including unfinished multipart uploads."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import aioboto3
import pytest
from botocore.exceptions import ClientError

from ragsvc.devstack.parts.s3 import REGION, ObjectStore
from ragsvc.devstack.ports import free_ports
from ragsvc.devstack.secrets import Secrets
from ragsvc.devstack.stack import start

if TYPE_CHECKING:
    from ragsvc.devstack.stack import Folders
    from tests.devstack.conftest import Starting

PART = b"0123456789abcdef" * 327_680  # 5 MiB


@pytest.fixture
def secrets() -> Secrets:
    return Secrets()


@pytest.fixture
def store(folders: Folders, secrets: Secrets) -> ObjectStore:
    ports = free_ports(2)
    return ObjectStore(
        folders.root / "s3",
        port=ports[0],
        metrics_port=ports[1],
        secrets=secrets,
        logs=folders.logs,
        run_dir=folders.run,
    )


def connect(store: ObjectStore, secrets: Secrets, *, secret: str | None = None) -> Any:
    return aioboto3.Session().client(
        "s3",
        endpoint_url=store.url,
        aws_access_key_id=secrets.s3_access_key_id,
        aws_secret_access_key=secret or secrets.s3_secret_access_key,
        region_name=REGION,
    )


async def test_a_multipart_upload_resumes_after_a_kill(
    store: ObjectStore, secrets: Secrets, folders: Folders, starting: Starting
) -> None:
    process = await start(store, folders.run)
    target = {"Bucket": "bucket", "Key": "object"}
    async with connect(store, secrets) as client:
        await client.create_bucket(Bucket="bucket")
        upload = (await client.create_multipart_upload(**target))["UploadId"]
        first = await client.upload_part(**target, UploadId=upload, PartNumber=1, Body=PART)
    process.kill()
    await process.wait()
    async with starting(store), connect(store, secrets) as client:
        last = await client.upload_part(**target, UploadId=upload, PartNumber=2, Body=b"the end")
        parts = [{"PartNumber": number, "ETag": part["ETag"]} for number, part in ((1, first), (2, last))]
        done = await client.complete_multipart_upload(**target, UploadId=upload, MultipartUpload={"Parts": parts})
        digests = b"".join(hashlib.md5(part, usedforsecurity=False).digest() for part in (PART, b"the end"))
        assert done["ETag"] == f'"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-2"'
        answer = await client.get_object(**target)
        assert await answer["Body"].read() == PART + b"the end"


async def test_a_wrong_secret_key_opens_nothing(store: ObjectStore, secrets: Secrets, starting: Starting) -> None:
    async with starting(store), connect(store, secrets, secret="wrong-secret-key") as client:
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            await client.list_buckets()


async def test_a_volume_is_formatted_again_after_a_killed_format(
    store: ObjectStore, secrets: Secrets, folders: Folders, starting: Starting
) -> None:
    (folders.root / "s3").mkdir()
    (folders.root / "s3" / "meta.db").write_bytes(b"torn")
    async with starting(store), connect(store, secrets) as client:
        await client.create_bucket(Bucket="bucket")
        assert [bucket["Name"] for bucket in (await client.list_buckets())["Buckets"]] == ["bucket"]


async def test_a_moved_data_directory_retains_its_objects(
    store: ObjectStore, secrets: Secrets, folders: Folders, starting: Starting
) -> None:
    async with starting(store), connect(store, secrets) as client:
        await client.create_bucket(Bucket="bucket")
        await client.put_object(Bucket="bucket", Key="object", Body=PART)
    moved = folders.root / "moved"
    (folders.root / "s3").rename(moved)
    ports = free_ports(2)
    again = ObjectStore(
        moved, port=ports[0], metrics_port=ports[1], secrets=secrets, logs=folders.logs, run_dir=folders.run
    )
    async with starting(again), connect(again, secrets) as client:
        answer = await client.get_object(Bucket="bucket", Key="object")
        assert await answer["Body"].read() == PART

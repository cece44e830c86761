"""Encryption at rest is requested from the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ragsvc.errors.base import RagsvcError
from ragsvc.storage.store import open_storage

if TYPE_CHECKING:
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.settings.settings import Settings


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"s3_sse": "AES256"}, {"x-amz-server-side-encryption": "AES256"}),
        (
            {"s3_sse": "aws:kms", "s3_sse_kms_key_id": "key-1"},
            {"x-amz-server-side-encryption": "aws:kms", "x-amz-server-side-encryption-aws-kms-key-id": "key-1"},
        ),
    ],
)
async def test_new_objects_are_encrypted_according_to_the_settings(
    settings: Settings, workspace: Workspace, changes: dict[str, object], expected: dict[str, str]
) -> None:
    sent: list[dict[str, str]] = []

    def record(params: dict[str, Any], **_context: object) -> None:
        sent.append({name: value for name, value in params["headers"].items() if "encryption" in name})

    async with open_storage(settings.changed(changes)) as storage:
        for operation in ("CreateMultipartUpload", "PutObject"):
            storage._client.meta.events.register(f"before-call.s3.{operation}", record)
        for send in (
            lambda: storage.create_multipart(workspace.bucket, "objects/a", mime_type="text/plain"),
            lambda: storage.put_object(workspace.bucket, "objects/b", body=b"x", metadata={}),
        ):
            try:
                await send()
            except RagsvcError:
                # The test store might have no KMS keys; only the request matters.
                continue
    assert sent == [expected, expected]

"""Receipts look into every store: replaced files, versions in the bucket, all tables of a workspace."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from ragsvc.db import workspace_rows
from ragsvc.deletion.files import sweep_released_files
from ragsvc.deletion.requests import request_document_deletion, request_workspace_deletion
from ragsvc.domain.webhooks import WebhookEvent
from ragsvc.jobs.announcements import announce
from ragsvc.uploads.documents import receive_content
from tests.support.documents.builds import build, ready_document
from tests.support.documents.deletions import load_deletion, removed_counts, run_deletion
from tests.support.documents.documents import reload, stream

if TYPE_CHECKING:
    from ragsvc.domain.documents import Document
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources

SELECT_WORKSPACE_TABLES = """
SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE a.attname = 'workspace_id' AND NOT a.attisdropped AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND c.relnamespace = current_schema()::regnamespace
"""


async def replace_content(resources: Resources, workspace: Workspace, document: Document) -> None:
    """Give the document a second version; its first file is released."""
    await receive_content(
        resources,
        workspace,
        document.id,
        stream(b"The second version."),
        filename="second.txt",
        mime_type="text/plain",
        late_attributes=lambda: None,
    )
    await build(resources, document)


@pytest.mark.parametrize("purge_file", [True, False])
async def test_the_files_of_replaced_versions_are_removed_and_counted(
    resources: Resources, workspace: Workspace, *, purge_file: bool
) -> None:
    document = await ready_document(resources, workspace)
    await replace_content(resources, workspace, document)
    # The sweeper has not removed the first version's file yet.
    assert await resources.storage.count_objects(workspace.bucket) == 2
    deletion = await request_document_deletion(resources, workspace.id, document.id, purge_file=purge_file)
    receipt = removed_counts(await run_deletion(resources, deletion))
    removed = 2 if purge_file else 1
    assert (receipt["objects"], receipt["files"]) == (removed, removed)
    assert await resources.storage.count_objects(workspace.bucket) == 2 - removed
    assert await sweep_released_files(resources) == 0


async def test_a_replaced_file_that_the_sweeper_removed_is_not_counted(
    resources: Resources, workspace: Workspace
) -> None:
    document = await ready_document(resources, workspace)
    await replace_content(resources, workspace, document)
    assert await sweep_released_files(resources) == 1
    deletion = await request_document_deletion(resources, workspace.id, document.id, purge_file=True)
    assert removed_counts(await run_deletion(resources, deletion))["objects"] == 1


async def test_ended_deliveries_about_a_document_are_removed(resources: Resources, workspace: Workspace) -> None:
    async with resources.pool.acquire() as conn:
        await conn.execute(
            "INSERT INTO webhooks (workspace_id, id, url, events, secret)"
            " VALUES ($1, gen_random_uuid(), 'https://example.com/', $2, '')",
            workspace.id,
            list(WebhookEvent),
        )
    document = await ready_document(resources, workspace)
    async with resources.pool.acquire() as conn:
        await announce(conn, WebhookEvent.DOCUMENT_READY, workspace_id=workspace.id, document_id=document.id)
        await conn.execute("UPDATE jobs SET status = 'done', finished_at = now() WHERE kind = 'deliver'")
    deletion = await request_document_deletion(resources, workspace.id, document.id, purge_file=True)
    done = await run_deletion(resources, deletion)
    # One from the build, one from above, and the ingestion.
    assert removed_counts(done)["jobs"] == 3
    async with resources.pool.acquire() as conn:
        events = await conn.fetch("SELECT payload ->> 'event' AS event FROM jobs WHERE kind = 'deliver'")
    assert [row["event"] for row in events] == ["document.deleted"]


async def test_every_table_of_a_workspace_is_emptied_or_excepted(resources: Resources) -> None:
    async with resources.pool.acquire() as conn:
        tables = {row["relname"] for row in await conn.fetch(SELECT_WORKSPACE_TABLES)}
    emptied = {table for tables_of_store in workspace_rows.STORES.values() for table in tables_of_store}
    known = emptied | set(workspace_rows.OTHER_TABLES) | set(workspace_rows.LASTING_TABLES)
    assert {table for table in tables if not table.startswith("chunk_vec_")} == known


async def test_nothing_of_a_deleted_workspace_remains_in_any_table(resources: Resources, workspace: Workspace) -> None:
    document = await ready_document(resources, workspace)
    await run_deletion(
        resources, await request_document_deletion(resources, workspace.id, document.id, purge_file=True)
    )
    await ready_document(resources, workspace)
    done = await run_deletion(resources, await request_workspace_deletion(resources, workspace.id))
    assert {store.remaining for store in done.stores} == {0}
    assert {"runs", "usage", "webhooks", "chat_sessions", "bulk_operations"} <= {store.store for store in done.stores}
    async with resources.pool.acquire() as conn:
        tables = {row["relname"] for row in await conn.fetch(SELECT_WORKSPACE_TABLES)}
        left = {
            table: await conn.fetchval(f"SELECT count(*) FROM {table} WHERE workspace_id = $1", workspace.id)  # noqa: S608 - our own tables
            for table in tables - set(workspace_rows.LASTING_TABLES)
        }
    # Only the job that deleted it.
    assert {table: count for table, count in left.items() if count} == {"jobs": 1}


async def test_the_line_of_a_store_that_cannot_be_searched_says_so(resources: Resources, workspace: Workspace) -> None:
    document = await ready_document(resources, workspace)
    deletion = await request_document_deletion(resources, workspace.id, document.id, purge_file=True)
    await run_deletion(resources, deletion)
    lines = {store.store: store.is_counted for store in (await load_deletion(resources, deletion)).stores}
    assert {store for store, is_counted in lines.items() if not is_counted} == {"embedding_cache"}


class VersionedClient:
    """The store's client for a bucket that keeps versions: a deletion without a version only adds a mark."""

    def __init__(self, real: Any, *, refuses: bool = False) -> None:
        self._real = real
        self._refuses = refuses
        self.versions: set[tuple[str, str]] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def get_bucket_versioning(self, **_arguments: object) -> dict[str, str]:
        if self._refuses:
            error: Any = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
            raise ClientError(error, "GetBucketVersioning")
        return {"Status": "Suspended"}

    async def list_object_versions(self, *, Prefix: str, **_arguments: object) -> dict[str, list[dict[str, str]]]:  # noqa: N803 - S3's name
        found = [{"Key": key, "VersionId": version} for key, version in sorted(self.versions) if key.startswith(Prefix)]
        return {"Versions": found[:1], "DeleteMarkers": found[1:]}

    async def delete_objects(self, *, Bucket: str, Delete: dict[str, Any]) -> dict[str, object]:  # noqa: N803 - S3's names
        for one in Delete["Objects"]:
            if "VersionId" in one:
                self.versions.discard((one["Key"], one["VersionId"]))
            await self._real.delete_object(Bucket=Bucket, Key=one["Key"])
        return {}


def with_client(resources: Resources, client: VersionedClient) -> Resources:
    storage = type(resources.storage).__new__(type(resources.storage))
    vars(storage).update(vars(resources.storage), _client=client)
    return replace(resources, storage=storage)


async def test_all_versions_of_a_file_are_removed_from_a_versioned_bucket(
    resources: Resources, workspace: Workspace
) -> None:
    document = await ready_document(resources, workspace)
    client = VersionedClient(resources.storage._client)
    async with resources.pool.acquire() as conn:
        key = await conn.fetchval(
            "SELECT object_key FROM files WHERE id = $1", (await reload(resources, document)).file_id
        )
    client.versions = {(key, "v1"), (key, "v2"), (key, "mark"), (f"{key}-of-another", "v1")}
    deletion = await request_document_deletion(resources, workspace.id, document.id, purge_file=True)
    done = await run_deletion(with_client(resources, client), deletion)
    assert removed_counts(done)["objects"] == 1
    assert client.versions == {(f"{key}-of-another", "v1")}


async def test_a_bucket_whose_versions_may_not_be_seen_is_not_said_to_be_empty(
    resources: Resources, workspace: Workspace
) -> None:
    document = await ready_document(resources, workspace)
    client = VersionedClient(resources.storage._client, refuses=True)
    deletion = await request_document_deletion(resources, workspace.id, document.id, purge_file=True)
    done = await run_deletion(with_client(resources, client), deletion)
    assert {store.store: store.is_counted for store in done.stores}["objects"] is False

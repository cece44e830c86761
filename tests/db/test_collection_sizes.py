"""The stored sizes of collections equal the sums over their documents, even under concurrent changes."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from ragsvc.db import documents
from ragsvc.db.migrations import migrate
from ragsvc.db.search.scope import Scope, Selection, select_scope
from ragsvc.domain.documents import DocumentStatus
from ragsvc.domain.ids import new_id
from tests.support.documents.library import Library
from tests.support.servers.databases import owner_of

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings

SEED = 20
CLIENTS = 8
CHANGES = 60
# A collection's rows are merged once there are more than 64; rows locked by other clients remain until the next merge.
MAX_ROWS = 64 + CLIENTS

COUNT_DOCUMENTS = """
SELECT collection_id, sum(chunk_count) AS chunks, sum(token_count) AS tokens FROM documents
WHERE workspace_id = $1 AND active_build IS NOT NULL AND status <> 'deleting' GROUP BY collection_id
"""
SELECT_SIZES = """
SELECT collection_id, sum(chunks) AS chunks, sum(tokens) AS tokens, count(*) AS rows FROM collection_sizes
WHERE workspace_id = $1 GROUP BY collection_id
"""

DROP_SIZES = """
DROP TRIGGER note_collection_sizes ON documents;
DROP FUNCTION note_collection_sizes, fold_collection_sizes;
DROP TABLE collection_sizes;
DELETE FROM schema_migrations WHERE name LIKE '0020%'
"""


class Client:
    """Makes random changes to documents: new versions, progress and deletions, some of which are rolled back."""

    def __init__(self, resources: Resources, workspace_id: UUID, document_ids: list[UUID], seed: int) -> None:
        self._resources = resources
        self._workspace_id = workspace_id
        self._document_ids = document_ids
        self._random = random.Random(seed)  # noqa: S311 - reproducible test data

    async def work(self) -> None:
        """Make all changes of the client."""
        for _ in range(CHANGES):
            async with self._resources.pool.acquire() as conn:
                transaction = conn.transaction()
                await transaction.start()
                await self._change(conn, self._random.choice(self._document_ids))
                await (transaction.rollback() if self._random.random() < 0.1 else transaction.commit())

    async def _change(self, conn: Connection, document_id: UUID) -> None:
        chance = self._random.random()
        if chance < 0.05:
            await documents.update_deleting(conn, self._workspace_id, document_id, deletion_id=new_id())
        elif chance < 0.25:
            await documents.update_ingestion_state(
                conn, self._workspace_id, document_id, status=DocumentStatus.PROCESSING
            )
        else:
            document = await documents.select_document(conn, self._workspace_id, document_id)
            assert document is not None
            await documents.update_active_build(
                conn,
                self._workspace_id,
                document_id,
                build_id=new_id(),
                file_id=document.file_id,
                chunk_count=self._random.randint(1, 50),
                token_count=self._random.randint(1, 5000),
                space_id=self._resources.space.id,
            )


async def test_the_sizes_equal_the_sums_over_the_documents(resources: Resources, workspace: Workspace) -> None:
    library = Library(resources, workspace.id)
    collection_ids = [await library.add_collection(name) for name in ("one", "two", "three")]
    ids = [await library.add(f"text {n}", collection_id=collection_ids[n % 3]) for n in range(12)]
    clients = [Client(resources, workspace.id, ids, SEED + n) for n in range(CLIENTS)]

    await asyncio.gather(*(client.work() for client in clients))
    assert await _compare(resources, workspace.id)

    async with resources.pool.acquire() as conn:
        going = await documents.select_document_ids(conn, workspace.id, collection_id=collection_ids[0], limit=100)
        await documents.update_documents_deleting(conn, workspace.id, going, deletion_id=new_id())
        assert await select_scope(conn, workspace.id, Selection((collection_ids[0],))) == Scope(1, 0, 0)
    assert collection_ids[0] not in await _compare(resources, workspace.id)


async def _compare(resources: Resources, workspace_id: UUID) -> set[UUID]:
    """Compare the sizes with the documents, and return the collections that are not empty."""
    async with resources.pool.acquire() as conn, conn.transaction(isolation="repeatable_read"):
        counted = {row["collection_id"]: row for row in await conn.fetch(COUNT_DOCUMENTS, workspace_id)}
        stored = {row["collection_id"]: row for row in await conn.fetch(SELECT_SIZES, workspace_id)}
    for collection_id, size in stored.items():
        found = counted.get(collection_id, {"chunks": 0, "tokens": 0})
        assert (size["chunks"], size["tokens"]) == (found["chunks"], found["tokens"])
        assert size["rows"] <= MAX_ROWS
    assert set(counted) <= set(stored)
    return set(counted)


async def test_the_migration_counts_existing_documents(
    settings: Settings, resources: Resources, workspace: Workspace
) -> None:
    await Library(resources, workspace.id).add("text", "more of it")
    async with owner_of(settings) as owner:
        await owner.execute(DROP_SIZES)
    assert [migration.name for migration in await migrate(settings)] == ["0020_count_chunks.sql"]
    assert await _compare(resources, workspace.id)

"""Migrations are applied once and verified, and the schema can be distributed by workspace."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from ragsvc.db import migrations
from ragsvc.db.connections.pool import connect, open_pool
from ragsvc.db.migrations import check_schema, migrate, migration_status
from ragsvc.errors.base import StartupRefused
from tests.support.documents.library import Library
from tests.support.servers.databases import cloned, owner_of
from tests.support.servers.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.db.connections.pool import Pool
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings

# Tables that are not per workspace, or whose rows outlive their workspace by design.
NOT_PER_WORKSPACE = {
    "workspaces",
    "schema_migrations",
    "queue_state",
    "embedding_spaces",
    "embedding_cache",
    "audit_events",
    "workers",
}

SELECT_CONSTRAINTS = """
SELECT c.conrelid::regclass::text AS relation, c.conname, array_agg(a.attname::text) AS columns
FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = ANY(c.conkey)
WHERE c.contype IN ('p', 'u', 'f') AND c.connamespace = 'public'::regnamespace GROUP BY 1, 2
"""
SELECT_TABLES = """
SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition
AND relnamespace = 'public'::regnamespace
"""


@asynccontextmanager
async def empty_database(settings: Settings) -> AsyncIterator[Settings]:
    async with cloned(settings.stores.database_url.get_secret_value(), template="template0") as url:
        yield settings.changed({"database_url": SecretStr(url)})


async def test_a_second_run_changes_nothing(settings: Settings) -> None:
    assert await migrate(settings) == []


async def test_concurrent_runs_apply_each_file_once(base_settings: Settings) -> None:
    async with empty_database(base_settings) as settings:
        first, second = await asyncio.gather(migrate(settings), migrate(settings))
        applied = sorted(migration.name for migration in [*first, *second])
        assert applied == sorted(migration.name for migration in await migration_status(settings))
        assert len(applied) >= 4


async def test_status_distinguishes_pending_from_applied(base_settings: Settings) -> None:
    async with empty_database(base_settings) as settings:
        assert {migration.applied_at for migration in await migration_status(settings)} == {None}
        await migrate(settings)
        assert all(migration.applied_at for migration in await migration_status(settings))


async def test_a_changed_applied_file_is_refused(settings: Settings) -> None:
    connection = await connect(settings.stores.migration_dsn)
    await connection.execute("UPDATE schema_migrations SET checksum = 'other' WHERE name LIKE '0001%'")
    await connection.close()
    with pytest.raises(StartupRefused, match=r"0001_.*was changed after it was applied"):
        await migrate(settings)


async def test_an_older_schema_is_refused_with_a_remedy(settings: Settings, pool: Pool) -> None:
    async with owner_of(settings) as owner:
        await owner.execute("DELETE FROM schema_migrations WHERE name LIKE '0004%'")
    async with pool.acquire() as conn:
        with pytest.raises(StartupRefused, match=r"0004_create_chat.sql is missing.*ragsvc migrate"):
            await check_schema(conn, settings)


async def test_an_unmigrated_database_is_refused_with_a_remedy(base_settings: Settings) -> None:
    async with empty_database(base_settings) as settings:
        with pytest.raises(StartupRefused, match="ragsvc migrate"):
            async with open_pool(settings, size=1):
                pytest.fail("the pool opened")


async def test_an_unknown_embedding_space_is_refused_until_migrated(settings: Settings, pool: Pool) -> None:
    other = settings.changed({"embedding_dimensions": 512, "embedding_model": "another-model"})
    async with pool.acquire() as conn:
        with pytest.raises(StartupRefused, match="no embedding space for another-model with 512"):
            await check_schema(conn, other)
        await migrate(other)
        space = await check_schema(conn, other)
        assert (space.model, space.dimensions) == ("another-model", 512)
        assert await conn.fetchval("SELECT to_regclass($1) IS NOT NULL", space.table)


async def test_an_unknown_text_search_configuration_is_refused(settings: Settings, pool: Pool) -> None:
    async with pool.acquire() as conn:
        with pytest.raises(StartupRefused, match=r"TEXT_SEARCH_CONFIG is deutsch, but Postgres only has .*german"):
            await check_schema(conn, settings.changed({"text_search_config": "deutsch"}))
        await check_schema(conn, settings.changed({"text_search_config": "german"}))


@pytest.fixture
def library(resources: Resources, workspace: Workspace) -> Library:
    return Library(resources, workspace.id)


async def test_a_new_embedding_space_is_refused_while_documents_are_in_another(
    settings: Settings, library: Library
) -> None:
    await library.add("Descale the kettle every three months.")
    other = settings.changed({"embedding_dimensions": 512, "embedding_model": "another-model"})
    refusal = r"another-model with 512 .* but the vectors of 1 document are of all-MiniLM-L6-v2 .*--new-embedding-space"
    with pytest.raises(StartupRefused, match=refusal):
        await migrate(other)
    async with library.resources.pool.acquire() as conn:
        with pytest.raises(StartupRefused, match=refusal):
            await check_schema(conn, other)
        await migrate(other, accept_new_space=True)
        assert (await check_schema(conn, other)).model == "another-model"
    await migrate(other)  # accepted once, it exists


async def test_documents_of_an_older_schema_get_the_space_of_their_vectors(
    settings: Settings, library: Library
) -> None:
    document_id = await library.add("Descale the kettle every three months.")
    (migration,) = (ROOT / "sql").glob("*_note_document_spaces.sql")
    async with owner_of(settings) as owner:
        await owner.execute("DROP INDEX documents_space; ALTER TABLE documents DROP COLUMN space_id")
        await owner.execute(migration.read_text())
        found = await owner.fetch("SELECT id, space_id FROM documents")
    assert [tuple(row) for row in found] == [(document_id, library.resources.space.id)]


@pytest.mark.parametrize(
    ("postgres", "pgvector", "message"),
    [
        ((19, 0), (0, 8, 4), "Postgres 18 is too old"),
        ((16, 0), (0, 9, 0), "pgvector .* is too old: .* ALTER EXTENSION vector UPDATE"),
    ],
)
async def test_old_servers_are_refused(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, postgres: tuple[int, int], pgvector: tuple[int, ...], message: str
) -> None:
    monkeypatch.setattr(migrations, "MIN_POSTGRES", postgres)
    monkeypatch.setattr(migrations, "MIN_PGVECTOR", pgvector)
    async with pool.acquire() as conn:
        with pytest.raises(StartupRefused, match=message):
            await migrations.check_versions(conn, installed=True)


async def test_every_constraint_of_a_workspace_table_includes_the_workspace(pool: Pool) -> None:
    async with pool.acquire() as conn:
        tables = {row["relname"] for row in await conn.fetch(SELECT_TABLES)} - NOT_PER_WORKSPACE
        constraints = [row for row in await conn.fetch(SELECT_CONSTRAINTS) if row["relation"] in tables]
    assert {row["relation"] for row in constraints} == tables
    assert [row["conname"] for row in constraints if "workspace_id" not in row["columns"]] == []

"""Applies the SQL migrations, and checks that a database matches this version."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from ragsvc.db import embedding_spaces
from ragsvc.db.connections.pool import InsufficientPrivilege, connect
from ragsvc.db.connections.roles import prepare_roles
from ragsvc.db.migration_checksums import checksum_migration, current_checksum
from ragsvc.errors.base import StartupRefused

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from ragsvc.db.connections.pool import Connection
    from ragsvc.db.connections.roles import RolesFault
    from ragsvc.domain.documents import EmbeddingSpace
    from ragsvc.settings.settings import Settings

MIN_POSTGRES = (16, 0)
# The first version with fixes for HNSW index corruption and CVE-2026-3172.
MIN_PGVECTOR = (0, 8, 4)
# A file with this first line has a single statement that cannot run in a transaction, such as CREATE INDEX
# CONCURRENTLY. The statement must be idempotent, since the process can be killed before it is recorded.
NO_TRANSACTION = "-- ragsvc: no transaction"
LOCK_KEY = 0x7261677376  # "ragsv"
LOCK_POLL_S = 0.2
# More documents in another embedding space are not counted, because probes count them often.
COUNTED_DOCUMENTS = 1000

CREATE_SCHEMA_MIGRATIONS = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    name text PRIMARY KEY,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""
SELECT_HAS_SCHEMA_MIGRATIONS = "SELECT to_regclass('schema_migrations') IS NOT NULL"
SELECT_MIGRATIONS = "SELECT name, checksum, applied_at FROM schema_migrations ORDER BY name"
INSERT_MIGRATION = "INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)"
SELECT_POSTGRES_VERSION = "SELECT current_setting('server_version_num')::integer"
SELECT_PGVECTOR_INSTALLED = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
SELECT_ROLE_AND_DATABASE = "SELECT quote_ident(current_user), current_database()"
SELECT_PGVECTOR_AVAILABLE = "SELECT default_version FROM pg_available_extensions WHERE name = 'vector'"
SELECT_TEXT_SEARCH_CONFIGS = "SELECT cfgname::text FROM pg_ts_config WHERE pg_ts_config_is_visible(oid) ORDER BY 1"
TRY_LOCK = "SELECT pg_try_advisory_lock($1)"
UNLOCK = "SELECT pg_advisory_unlock($1)"
SET_PARTITIONS = "SELECT set_config('ragsvc.chunk_partitions', $1, true)"


log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Migration:
    """A migration file; `applied_at` is None while it is pending."""

    name: str
    sql: str
    checksum: str
    applied_at: datetime | None = None


async def migrate(
    settings: Settings,
    *,
    accept_new_space: bool = False,
    on_roles_fault: Callable[[RolesFault], None] | None = None,
) -> list[Migration]:
    """Update the database to the schema of this version and return the migrations that this call applied.

    Concurrent calls are safe: the second waits for the first and has nothing left to do. `on_roles_fault` is called if
    row-level security cannot be enabled.

    Raises:
        StartupRefused: Postgres or pgvector is too old, or an applied file was changed afterwards; or, without
            `accept_new_space`, the settings name a new embedding space although documents are in another.
    """
    connection = await connect(settings.stores.migration_dsn)
    try:
        await check_versions(connection, installed=False)
        # Polled, because a waiter blocked inside Postgres would hold a snapshot and deadlock with a concurrent index
        # build.
        while not await connection.fetchval(TRY_LOCK, LOCK_KEY):  # noqa: ASYNC110 - the lock belongs to another process
            await asyncio.sleep(LOCK_POLL_S)
        try:
            return await _apply_pending(
                connection, settings, accept_new_space=accept_new_space, on_roles_fault=on_roles_fault
            )
        except InsufficientPrivilege as error:
            raise StartupRefused(await _describe_missing_right(connection, error)) from error
        finally:
            await connection.execute(UNLOCK, LOCK_KEY)
    finally:
        await connection.close()


async def _describe_missing_right(connection: Connection, error: InsufficientPrivilege) -> str:
    role, database = await connection.fetchrow(SELECT_ROLE_AND_DATABASE) or ("", "")
    if await connection.fetchval(SELECT_PGVECTOR_INSTALLED) is None:
        remedy = "CREATE EXTENSION vector"
    else:
        remedy = f"GRANT CREATE ON SCHEMA public TO {role}"
    return (
        f"The role {role} lacks a right that the migration needs: {error.args[0]}. Have an administrator run"
        f" `{remedy};` in the database {database}, then run `ragsvc migrate` again"
    )


async def migration_status(settings: Settings) -> list[Migration]:
    """Return all migrations of this version in order, applied or pending."""
    connection = await connect(settings.stores.migration_dsn)
    try:
        return await _status(connection)
    finally:
        await connection.close()


async def check_schema(conn: Connection, settings: Settings) -> EmbeddingSpace:
    """Check that the database matches this version, and return the embedding space of the settings.

    Raises:
        StartupRefused: Postgres or pgvector is too old, a migration is missing, or the space does not exist.
    """
    await check_versions(conn, installed=True)
    pending = [migration.name for migration in await _status(conn) if migration.applied_at is None]
    if pending:
        raise StartupRefused(f"The schema is older than this version ({pending[0]} is missing): run `ragsvc migrate`")
    space = await _find_space(conn, settings)
    if space is None:
        await _refuse_new_space(conn, settings)
        raise StartupRefused(f"The database has no embedding space for {_wanted_space(settings)}: run `ragsvc migrate`")
    await _check_text_search(conn, settings.answering.text_search_config)
    return space


async def _check_text_search(conn: Connection, config: str) -> None:
    known = [row["cfgname"] for row in await conn.fetch(SELECT_TEXT_SEARCH_CONFIGS)]
    if config not in known:
        raise StartupRefused(f"TEXT_SEARCH_CONFIG is {config}, but Postgres only has {', '.join(known)}")


async def check_versions(conn: Connection, *, installed: bool) -> None:
    """Check the versions of Postgres and pgvector; with `installed`, the extension must exist in this database.

    Raises:
        StartupRefused: one of them is too old or missing; the message says how to fix it.
    """
    version = await conn.fetchval(SELECT_POSTGRES_VERSION)
    if (version // 10000, 0) < MIN_POSTGRES:
        raise StartupRefused(f"Postgres {version // 10000} is too old: ragsvc needs {MIN_POSTGRES[0]} or newer")
    pgvector = await conn.fetchval(SELECT_PGVECTOR_INSTALLED)
    wanted = ".".join(map(str, MIN_PGVECTOR))
    if pgvector is None:
        available = None if installed else await conn.fetchval(SELECT_PGVECTOR_AVAILABLE)
        if available is None:
            remedy = "run `ragsvc migrate`" if installed else f"install pgvector {wanted} on the server"
            raise StartupRefused(f"The database has no pgvector: {remedy}")
        if _version(available) < MIN_PGVECTOR:
            raise StartupRefused(f"pgvector {available} is too old: install {wanted} or newer on the server")
    elif _version(pgvector) < MIN_PGVECTOR:
        raise StartupRefused(
            f"pgvector {pgvector} is too old: install {wanted} or newer, then run ALTER EXTENSION vector UPDATE"
        )


async def _find_space(conn: Connection, settings: Settings) -> EmbeddingSpace | None:
    return await embedding_spaces.select_embedding_space(
        conn,
        model=settings.llm.embedding_model,
        dimensions=settings.llm.embedding_dimensions,
        revision=settings.llm.embedding_revision,
    )


async def _refuse_new_space(conn: Connection, settings: Settings) -> None:
    """Refuse a space that does not exist yet if documents are in another one: searches would no longer find them."""
    used = await embedding_spaces.select_space_in_use(conn)
    if used is None:
        return
    count = await embedding_spaces.count_documents_of_other_spaces(conn, 0, limit=COUNTED_DOCUMENTS)
    raise StartupRefused(
        f"The settings name the embedding model {_wanted_space(settings)}, but the vectors of {describe_count(count)}"
        f" are of {used.model} with {used.dimensions} dimensions, revision {used.revision}, and searches with the"
        " new model would not find them by meaning. Either set EMBEDDING_MODEL, EMBEDDING_DIMENSIONS and"
        " EMBEDDING_REVISION to the old model, or run `ragsvc migrate --new-embedding-space`, restart, and ingest every"
        " document again with POST /v1/documents/bulk-reingest"
    )


def describe_count(count: int) -> str:
    """Return in words how many documents were counted up to COUNTED_DOCUMENTS."""
    if count == 1:
        return "1 document"
    return f"{count} documents" if count < COUNTED_DOCUMENTS else f"{count} or more documents"


def _wanted_space(settings: Settings) -> str:
    llm = settings.llm
    return f"{llm.embedding_model} with {llm.embedding_dimensions} dimensions, revision {llm.embedding_revision}"


async def _apply_pending(
    connection: Connection,
    settings: Settings,
    *,
    accept_new_space: bool,
    on_roles_fault: Callable[[RolesFault], None] | None,
) -> list[Migration]:
    await connection.execute(CREATE_SCHEMA_MIGRATIONS)
    pending = [migration for migration in await _status(connection) if migration.applied_at is None]
    for migration in pending:
        if migration.sql.startswith(NO_TRANSACTION):
            await connection.execute(migration.sql)
            await connection.execute(INSERT_MIGRATION, migration.name, migration.checksum)
            continue
        async with connection.transaction():
            await connection.execute(SET_PARTITIONS, str(settings.ingestion.chunk_partitions))
            await connection.execute(migration.sql)
            await connection.execute(INSERT_MIGRATION, migration.name, migration.checksum)
    if not accept_new_space and await _find_space(connection, settings) is None:
        await _refuse_new_space(connection, settings)
    async with connection.transaction():
        await embedding_spaces.create_embedding_space(
            connection,
            model=settings.llm.embedding_model,
            dimensions=settings.llm.embedding_dimensions,
            revision=settings.llm.embedding_revision,
            partitions=settings.ingestion.chunk_partitions,
        )
    if fault := await prepare_roles(connection, settings.stores.database_url.get_secret_value()):
        log.warning("row_level_security_off", fault=fault.reason, remedy=list(fault.statements))
        if on_roles_fault is not None:
            on_roles_fault(fault)
    return pending


async def _status(connection: Connection) -> list[Migration]:
    known = {}
    if await connection.fetchval(SELECT_HAS_SCHEMA_MIGRATIONS):
        known = {row["name"]: row for row in await connection.fetch(SELECT_MIGRATIONS)}
    found = []
    for name, sql in _read_files():
        checksum = checksum_migration(sql)
        applied = known.get(name)
        if applied is not None and current_checksum(applied["checksum"]) != checksum:
            raise StartupRefused(f"{name} was changed after it was applied: restore it and add a new migration")
        found.append(Migration(name, sql, checksum, applied["applied_at"] if applied else None))
    return found


def _read_files() -> list[tuple[str, str]]:
    # In a wheel, sql/ is inside the package; in a checkout, it is next to it.
    packaged = files("ragsvc") / "sql"
    folder = packaged if packaged.is_dir() else Path(__file__).resolve().parents[2] / "sql"
    return [
        (entry.name, entry.read_text(encoding="utf-8"))
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".sql")
    ]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())

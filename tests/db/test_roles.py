"""Permissions in the database: those of the owner, the service, and requests of a workspace."""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from ragsvc.db import collections
from ragsvc.db.connections import sessions
from ragsvc.db.connections.pool import open_pool
from ragsvc.db.connections.roles import prepare_roles
from ragsvc.db.migrations import check_schema, migrate
from ragsvc.domain.ids import new_id
from ragsvc.errors.base import StartupRefused
from tests.support.servers.databases import cloned, owner_of
from tests.support.workspaces import create_workspace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.db.connections.pool import Connection, Pool
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.settings.settings import Settings
    from ragsvc.storage.store import Storage

# Tables without a workspace, and the table of chunk texts, whose statements join documents.
UNPROTECTED = {"schema_migrations", "queue_state", "workers", "embedding_spaces", "embedding_cache", "chunk_text"}


@pytest.fixture
async def pair(settings: Settings, pool: Pool, storage: Storage) -> tuple[Workspace, Workspace]:
    """Two workspaces."""
    return await create_workspace(pool, storage, settings), await create_workspace(pool, storage, settings)


@asynccontextmanager
async def login_as(settings: Settings, options: str) -> AsyncIterator[Settings]:
    """Yield settings of an empty database owned by a new login that is not a superuser."""
    name = f"owner_{uuid.uuid4().hex}"
    async with owner_of(settings) as root:
        await root.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'owner' {options}")
        try:
            async with cloned(settings.stores.database_url.get_secret_value(), template="template0") as url:
                database = url.rpartition("/")[2]
                await root.execute(f"ALTER DATABASE {database} OWNER TO {name}")
                own = settings.changed({"database_url": SecretStr(url)})
                async with owner_of(own) as extender:
                    await extender.execute("CREATE EXTENSION vector")
                    await extender.execute(f"ALTER SCHEMA public OWNER TO {name}")
                address = url.partition("@")[2]
                yield own.changed({"database_url": SecretStr(f"postgresql://{name}:owner@{address}")})
        finally:
            # DROP OWNED also revokes what the login granted to others.
            await root.execute(f"REASSIGN OWNED BY {name} TO CURRENT_USER")
            await root.execute(f"DROP OWNED BY {name} CASCADE")
            await root.execute(f"DROP ROLE {name}")


async def visible_workspaces(pool: Pool) -> set[uuid.UUID]:
    """Return the workspaces whose collections are visible to a statement without a condition."""
    async with pool.acquire() as conn:
        return {row["workspace_id"] for row in await conn.fetch("SELECT workspace_id FROM collections")}


async def identity_of(conn: Connection) -> tuple[str, str]:
    """Return the role that a connection uses, and the workspace that it is scoped to."""
    row = await conn.fetchrow("SELECT current_user::text, current_setting('ragsvc.workspace_id', true)")
    assert row is not None
    return row[0], row[1]


async def test_every_table_of_a_workspace_is_protected(settings: Settings) -> None:
    """This includes tables that later migrations add."""
    async with owner_of(settings) as owner:
        await owner.execute("CREATE TABLE later (workspace_id uuid NOT NULL, id uuid, PRIMARY KEY (workspace_id, id))")
        assert await prepare_roles(owner, settings.stores.database_url.get_secret_value()) is None
        rows = await owner.fetch(
            "SELECT relname, relrowsecurity FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
            " AND relnamespace = 'public'::regnamespace AND relname NOT LIKE 'chunk_vec_%'"
        )
    protected = {row["relname"] for row in rows if row["relrowsecurity"]}
    assert {row["relname"] for row in rows} - protected == UNPROTECTED
    assert {"later", "documents", "workspaces"} <= protected


async def test_a_scope_sees_only_its_workspace_and_the_system_sees_all(
    pool: Pool, pair: tuple[Workspace, Workspace]
) -> None:
    one, other = pair
    for _ in range(2):
        assert await visible_workspaces(pool.scoped_to(one.id)) == {one.id}
        assert await visible_workspaces(pool) == {one.id, other.id}
        assert await visible_workspaces(pool.scoped_to(other.id)) == {other.id}
    assert await visible_workspaces(pool.scoped_to(new_id())) == set()


async def test_statements_run_as_the_role_of_their_scope(pool: Pool, pair: tuple[Workspace, Workspace]) -> None:
    async with pool.acquire() as conn:
        assert await identity_of(conn) == ("ragsvc_system", "")
    async with pool.scoped_to(pair[0].id).acquire() as conn:
        assert await identity_of(conn) == ("ragsvc_app", str(pair[0].id))


async def test_an_unchanged_scope_costs_no_round_trip(
    settings: Settings, pair: tuple[Workspace, Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    entered: list[Any] = []
    enter = sessions.Session.enter

    async def count(session: sessions.Session, connection: Any, scope: Any) -> None:
        entered.extend([] if session.scope == scope else [scope])
        await enter(session, connection, scope)

    monkeypatch.setattr(sessions.Session, "enter", count)
    async with open_pool(settings, size=1) as pool:
        for scope in (pair[0].id, pair[0].id, pair[1].id, pair[1].id):
            assert await visible_workspaces(pool.scoped_to(scope)) == {scope}
    assert entered == [pair[0].id, pair[1].id]


async def test_a_session_enters_its_scope_again_after_a_failure(
    settings: Settings, pair: tuple[Workspace, Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_pool(settings, size=1) as pool:
        assert await visible_workspaces(pool.scoped_to(pair[0].id)) == {pair[0].id}
        with monkeypatch.context() as broken:
            broken.setattr(sessions, "ENTER_WORKSPACE", "SELECT 1 / 0 + length($1)")
            with pytest.raises(Exception, match="division by zero"):
                await visible_workspaces(pool.scoped_to(pair[1].id))
        assert await visible_workspaces(pool.scoped_to(pair[0].id)) == {pair[0].id}
        assert await visible_workspaces(pool.scoped_to(pair[1].id)) == {pair[1].id}


async def test_no_state_is_left_in_sessions_behind_a_transaction_pooler(
    settings: Settings, pair: tuple[Workspace, Workspace]
) -> None:
    pooled = settings.changed({"database_statement_cache": False})
    one, other = pair
    async with open_pool(pooled, size=1) as pool:
        for scope in (one.id, other.id):
            scoped = pool.scoped_to(scope)
            assert await visible_workspaces(scoped) == {scope}
            async with scoped.acquire() as conn, conn.transaction():
                await collections.insert_collection(conn, scope, new_id(), name="more")
                assert await identity_of(conn) == ("ragsvc_app", str(scope))
                with pytest.raises(Exception, match="duplicate key"):
                    async with conn.transaction():
                        await conn.execute(
                            "INSERT INTO collections (workspace_id, id, name) VALUES ($1, $2, 'more')", scope, new_id()
                        )
                # The savepoint is rolled back, and the scope remains set.
                assert await conn.fetchval("SELECT count(*) FROM collections") == 2
            assert await visible_workspaces(pool) == {one.id, other.id}
            async with pool.acquire() as conn:
                assert await conn.fetchval("SELECT current_user = session_user")
                assert await conn.fetchval("SELECT coalesce(current_setting('ragsvc.workspace_id', true), '')") == ""


async def test_an_owner_without_superuser_rights_creates_the_roles(settings: Settings, storage: Storage) -> None:
    """As on managed servers, the owner can create roles but is not a superuser."""
    async with login_as(settings, "CREATEROLE") as own, owner_of(settings) as root:
        # The roles already exist here with another owner, who must grant the membership.
        login = own.stores.database_url.get_secret_value().partition("//")[2].partition(":")[0]
        await root.execute(f"GRANT ragsvc_app, ragsvc_system TO {login} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
        await migrate(own)
        async with open_pool(own, size=2) as pool:
            one, other = [await create_workspace(pool, storage, own) for _ in range(2)]
            assert await visible_workspaces(pool.scoped_to(one.id)) == {one.id}
            assert await visible_workspaces(pool) == {one.id, other.id}


async def test_an_owner_that_cannot_create_roles_serves_without_isolation_until_granted(
    settings: Settings, storage: Storage
) -> None:
    async with login_as(settings, "") as own:
        dsn = own.stores.database_url.get_secret_value()
        await migrate(own)
        async with open_pool(own, size=2) as pool:
            async with pool.acquire() as conn:
                await check_schema(conn, own)
            one, other = [await create_workspace(pool, storage, own) for _ in range(2)]
            assert await visible_workspaces(pool.scoped_to(one.id)) == {one.id, other.id}
            assert not await pool.can_isolate()
        async with owner_of(own) as owner, owner_of(settings) as root:
            fault = await prepare_roles(owner, dsn)
            assert fault is not None
            assert "row-level security is off" in fault.reason
            assert "\n" not in fault.reason
            assert len(fault.statements) == 4
            for statement in fault.statements:
                if statement.startswith("GRANT"):
                    await root.execute(statement)
            assert await prepare_roles(owner, dsn) is None
        async with open_pool(own, size=2) as pool:
            assert await pool.can_isolate()
            assert await visible_workspaces(pool.scoped_to(one.id)) == {one.id}


async def test_a_role_that_may_not_create_extensions_gets_the_statement_to_run(settings: Settings) -> None:
    async with login_as(settings, "NOCREATEROLE") as own:
        url = settings.stores.database_url.get_secret_value().rpartition("/")[0]
        database = own.stores.database_url.get_secret_value().rpartition("/")[2]
        as_root = settings.changed({"database_url": SecretStr(f"{url}/{database}")})
        async with owner_of(as_root) as root:
            await root.execute("DROP EXTENSION vector CASCADE")
        with pytest.raises(StartupRefused, match=f"CREATE EXTENSION vector;` in the database {database}"):
            await migrate(own)


async def test_a_separate_login_of_the_service_gets_the_permissions_that_it_needs(settings: Settings) -> None:
    """MIGRATION_DATABASE_URL uses the owner; the service has its own login, which owns nothing."""
    name = f"service_{uuid.uuid4().hex}"
    address = settings.stores.database_url.get_secret_value().partition("@")[2]
    async with owner_of(settings) as root:
        await root.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'service'")
        try:
            own = settings.changed(
                {
                    "migration_database_url": settings.stores.database_url,
                    "database_url": SecretStr(f"postgresql://{name}:service@{address}"),
                }
            )
            await migrate(own)
            for cached in (True, False):
                async with open_pool(own.changed({"database_statement_cache": cached}), size=1) as pool:
                    async with pool.acquire() as conn:
                        await check_schema(conn, own)
                        with pytest.raises(Exception, match="must be owner"):
                            await conn.execute("DROP TABLE documents")
                    assert await visible_workspaces(pool.scoped_to(new_id())) == set()
        finally:
            await root.execute(f"DROP OWNED BY {name}")
            await root.execute(f"DROP ROLE {name}")

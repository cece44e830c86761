"""Whose rows a connection may see: as which role it runs its statements, and for which workspace."""

from __future__ import annotations

from contextlib import asynccontextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg

from ragsvc.db.connections.roles import APP, SETTING, SYSTEM

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.db.connections.roles import Connection

# False too where the roles are those of another database of the server, and this one was not migrated since.
SELECT_CAN_ISOLATE = f"""
SELECT count(*) = 2 AND bool_and(coalesce(
    pg_has_role(session_user, oid, 'SET') AND has_table_privilege(oid, to_regclass('schema_migrations'), 'SELECT'),
    false))
FROM pg_roles WHERE rolname IN ('{APP}', '{SYSTEM}')
"""
ENTER_SYSTEM = f"SELECT set_config('role', '{SYSTEM}', false), set_config('{SETTING}', '', false)"
ENTER_WORKSPACE = f"SELECT set_config('role', '{APP}', false), set_config('{SETTING}', $1, false)"
ENTER_WORKSPACE_LOCALLY = f"SELECT set_config('role', '{APP}', true), set_config('{SETTING}', $1, true)"


class Everything(Enum):
    """What is no workspace."""

    UNKNOWN = 0
    SYSTEM = 1


# The driver's class is generic to type checkers alone.
if TYPE_CHECKING:
    _Connection = asyncpg.Connection[asyncpg.Record]
else:
    _Connection = asyncpg.Connection


class Session:
    """What a connection's session was last told; it is told again only to change it."""

    def __init__(self) -> None:
        self.can_isolate = False
        self.scope: UUID | Everything = Everything.UNKNOWN

    async def enter(self, connection: Connection, scope: UUID | Everything) -> None:
        """Let the connection see this workspace alone, or all of them."""
        if self.scope == scope:
            return
        # Whoever is cancelled in here leaves it unknown.
        self.scope = Everything.UNKNOWN
        if isinstance(scope, UUID):
            await connection.execute(ENTER_WORKSPACE, str(scope))
        else:
            await connection.execute(ENTER_SYSTEM)
        self.scope = scope


class SessionConnection(_Connection):
    """A connection of a pool, with what its session was told."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - the driver's own
        super().__init__(*args, **options)
        self.session = Session()


class Entrance:
    """A connection on which a caller is looked up; the statement itself enters the workspace if `enters`."""

    def __init__(self, conn: Connection, *, enters: bool) -> None:
        self.conn = conn
        self.enters = enters
        self.found: UUID | None = None


class LocalConnection:
    """A connection for one workspace behind a transaction pooler: each transaction says anew whose it is."""

    def __init__(self, connection: Connection, workspace_id: UUID) -> None:
        self._connection = connection
        self._workspace_id = workspace_id

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Run statements as one; inside of another one this is a savepoint."""
        is_first = not self._connection.is_in_transaction()
        async with self._connection.transaction():
            if is_first:
                await self._connection.execute(ENTER_WORKSPACE_LOCALLY, str(self._workspace_id))
            yield

    async def execute(self, query: str, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - the driver's own
        """Run a statement, in a transaction of its own where there is none."""
        async with self.transaction():
            return await self._connection.execute(query, *args, **options)

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Return a statement's rows; otherwise like `execute`."""
        async with self.transaction():
            return await self._connection.fetch(query, *args, **options)

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Return a statement's first row; otherwise like `execute`."""
        async with self.transaction():
            return await self._connection.fetchrow(query, *args, **options)

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Return the first value of a statement's first row; otherwise like `execute`."""
        async with self.transaction():
            return await self._connection.fetchval(query, *args, **options)

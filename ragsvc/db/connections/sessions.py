"""Session scopes: the role and workspace for which a connection runs its statements."""

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

# Whether the login can switch to both roles and they have permissions on this database. They have none if they were
# created for another database of the server and this one has not been migrated since.
SELECT_CAN_ISOLATE = f"""
SELECT count(*) = 2 AND bool_and(coalesce(
    pg_has_role(session_user, oid, 'SET') AND has_table_privilege(oid, to_regclass('schema_migrations'), 'SELECT'),
    false))
FROM pg_roles WHERE rolname IN ('{APP}', '{SYSTEM}')
"""
ENTER_SYSTEM = f"SELECT set_config('role', '{SYSTEM}', false), set_config('{SETTING}', '', false)"
ENTER_WORKSPACE = f"SELECT set_config('role', '{APP}', false), set_config('{SETTING}', $1, false)"
ENTER_WORKSPACE_LOCALLY = f"SELECT set_config('role', '{APP}', true), set_config('{SETTING}', $1, true)"


class SpecialScope(Enum):
    """Scopes other than a single workspace."""

    UNKNOWN = 0
    SYSTEM = 1


# The driver's class is generic only in its type stubs.
if TYPE_CHECKING:
    _Connection = asyncpg.Connection[asyncpg.Record]
else:
    _Connection = asyncpg.Connection


class Session:
    """The current scope of a connection's session, tracked so that it is set only when it changes."""

    def __init__(self) -> None:
        self.can_isolate = False
        self.scope: UUID | SpecialScope = SpecialScope.UNKNOWN

    async def enter(self, connection: Connection, scope: UUID | SpecialScope) -> None:
        """Limit the connection to a workspace, or let it see all of them."""
        if self.scope == scope:
            return
        # Remains unknown if the statement fails or is cancelled.
        self.scope = SpecialScope.UNKNOWN
        if isinstance(scope, UUID):
            await connection.execute(ENTER_WORKSPACE, str(scope))
        else:
            await connection.execute(ENTER_SYSTEM)
        self.scope = scope


class SessionConnection(_Connection):
    """A connection of the pool with its session's scope."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - as in the driver
        super().__init__(*args, **options)
        self.session = Session()


class LookupConnection:
    """A connection to look up a caller; if `enters_workspace`, the statement also enters the caller's workspace."""

    def __init__(self, conn: Connection, *, enters_workspace: bool) -> None:
        self.conn = conn
        self.enters_workspace = enters_workspace
        self.workspace_id: UUID | None = None


class LocalConnection:
    """A connection for one workspace behind a transaction pooler: every transaction sets its own scope."""

    def __init__(self, connection: Connection, workspace_id: UUID) -> None:
        self._connection = connection
        self._workspace_id = workspace_id

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Run the body in a transaction, or in a savepoint if there is a transaction already."""
        is_first = not self._connection.is_in_transaction()
        async with self._connection.transaction():
            if is_first:
                await self._connection.execute(ENTER_WORKSPACE_LOCALLY, str(self._workspace_id))
            yield

    async def execute(self, query: str, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - as in the driver
        """Run a statement, in its own transaction if there is none."""
        async with self.transaction():
            return await self._connection.execute(query, *args, **options)

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Return the rows of a statement; otherwise like `execute`."""
        async with self.transaction():
            return await self._connection.fetch(query, *args, **options)

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Return the first row of a statement; otherwise like `execute`."""
        async with self.transaction():
            return await self._connection.fetchrow(query, *args, **options)

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Return the first value of the first row; otherwise like `execute`."""
        async with self.transaction():
            return await self._connection.fetchval(query, *args, **options)

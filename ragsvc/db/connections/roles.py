"""Postgres roles and their permissions, updated by every migration.

Requests of a workspace run as `ragsvc_app`, which row-level security limits to the rows of that workspace. Operators'
requests, workers and the sweeper run as `ragsvc_system`, which sees all workspaces. The role that runs the migrations
owns the tables. Roles belong to the server, not to a database, so a file in `sql/` cannot create them.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]

APP = "ragsvc_app"
SYSTEM = "ragsvc_system"
SETTING = "ragsvc.workspace_id"

SELECT_HAS_ROLES = f"SELECT count(*) = 2 FROM pg_roles WHERE rolname IN ('{APP}', '{SYSTEM}')"
CREATE_ROLES = (f"CREATE ROLE {APP} NOLOGIN", f"CREATE ROLE {SYSTEM} NOLOGIN")

# The login can switch to both roles. Behind a transaction pooler it also runs statements directly, with the inherited
# rights of the system role.
SELECT_IS_MEMBER = f"""
SELECT rolsuper OR (pg_has_role(oid, '{APP}', 'SET') AND pg_has_role(oid, '{SYSTEM}', 'SET')
                    AND pg_has_role(oid, '{SYSTEM}', 'USAGE'))
FROM pg_roles WHERE rolname = $1
"""
GRANT_MEMBERSHIP = """
GRANT ragsvc_app TO {login} WITH INHERIT FALSE, SET TRUE;
GRANT ragsvc_system TO {login} WITH INHERIT TRUE, SET TRUE
"""
QUOTE_IDENTIFIER = "SELECT quote_ident($1)"

# Enables row-level security on every table with a workspace column, including tables of later migrations. The
# partitioned chunk tables are exempt: their statements filter by workspace and join documents, which are protected.
# (`@@` is not leakproof, so a policy would prevent it from using the index.)
PROTECT_TABLES = f"""
DO $$
DECLARE
    own CONSTANT text := 'nullif(current_setting(''{SETTING}'', true), '''')::uuid';
    relation record;
BEGIN
    FOR relation IN
        SELECT c.oid::regclass AS name, c.relname, c.relkind, c.relrowsecurity,
               CASE WHEN c.relname = 'workspaces' THEN 'id' ELSE a.attname::text END AS workspace
        FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'workspace_id'
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
          AND pg_has_role(c.relowner, 'USAGE')
    LOOP
        IF relation.relname IN ('schema_migrations', 'embedding_spaces') THEN
            EXECUTE format('GRANT SELECT ON %s TO {APP}, {SYSTEM}', relation.name);
            CONTINUE;
        ELSIF relation.relname = 'audit_events' THEN
            EXECUTE format('GRANT INSERT ON %s TO {APP}, {SYSTEM}', relation.name);
            EXECUTE format('GRANT SELECT ON %s TO {SYSTEM}', relation.name);
        ELSE
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO {SYSTEM}', relation.name);
            IF relation.relkind = 'p' OR relation.relname = 'queue_state' THEN
                EXECUTE format('GRANT SELECT ON %s TO {APP}', relation.name);
            ELSIF relation.relname = 'workspaces' THEN
                -- Requests read the row; locking it requires UPDATE on a column.
                EXECUTE format('GRANT SELECT, UPDATE (audit_after) ON %s TO {APP}', relation.name);
            ELSIF relation.workspace IS NOT NULL AND relation.relname <> 'api_keys' THEN
                EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO {APP}', relation.name);
            END IF;
        END IF;
        IF relation.relkind = 'r' AND relation.workspace IS NOT NULL AND NOT relation.relrowsecurity THEN
            EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation.name);
            EXECUTE format('CREATE POLICY own_workspace ON %s TO {APP} USING (%I = %s)',
                           relation.name, relation.workspace, own);
            EXECUTE format('CREATE POLICY every_workspace ON %s TO {SYSTEM} USING (true)', relation.name);
        END IF;
        -- One table per transaction: a running service can lock tables in a different order, which could deadlock.
        COMMIT;
    END LOOP;
    REVOKE ALL ON FUNCTION find_key_owner, find_token_owner, is_key_valid FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION find_key_owner, find_token_owner, is_key_valid TO {APP}, {SYSTEM};
END $$
"""


@dataclass(frozen=True, slots=True)
class RolesFault:
    """Why row-level security is off, and the statements with which an administrator makes it possible."""

    reason: str
    statements: tuple[str, ...]


async def prepare_roles(connection: Connection, login_dsn: str) -> RolesFault | None:
    """Create the roles, let the service's login switch to them, and grant their permissions on this database.

    Return None if row-level security is on. Otherwise return why it is off and how an administrator can enable it,
    since not every database owner can create roles.
    """
    login = _login_of(login_dsn) or await connection.fetchval("SELECT session_user::text")
    try:
        await _create_roles(connection)
        await _grant_membership(connection, login)
    except asyncpg.InsufficientPrivilegeError as error:
        # The error's own message; its other lines are details that logs redact.
        reason = f"row-level security is off, and requests run as {login}: {error.args[0]}"
        quoted = await connection.fetchval(QUOTE_IDENTIFIER, login)
        grants = (line.strip(" ;") for line in GRANT_MEMBERSHIP.format(login=quoted).strip().splitlines())
        return RolesFault(reason, (*CREATE_ROLES, *grants))
    await connection.execute(PROTECT_TABLES)
    return None


async def _create_roles(connection: Connection) -> None:
    if await connection.fetchval(SELECT_HAS_ROLES):
        return
    for statement in CREATE_ROLES:
        # Another database of this server might be migrated at the same time.
        with suppress(asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
            await connection.execute(statement)


async def _grant_membership(connection: Connection, login: str) -> None:
    # The query returns None if the login does not exist yet: its creator must then grant the membership.
    if await connection.fetchval(SELECT_IS_MEMBER, login) is False:
        quoted = await connection.fetchval(QUOTE_IDENTIFIER, login)
        await connection.execute(GRANT_MEMBERSHIP.format(login=quoted))


def _login_of(dsn: str) -> str | None:
    """Return the user in a DSN, or None."""
    parts = urlsplit(dsn)
    return unquote(parts.username) if parts.username else next(iter(parse_qs(parts.query).get("user", [])), None)

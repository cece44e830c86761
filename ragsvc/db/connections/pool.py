"""The Postgres pool, with its type codecs, session settings and error classes."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, cast
from uuid import UUID

import asyncpg
import orjson
from pgvector import HalfVector

from ragsvc.db.connections.sessions import (
    SELECT_CAN_ISOLATE,
    LocalConnection,
    LookupConnection,
    SessionConnection,
    SpecialScope,
)
from ragsvc.errors.base import StartupRefused
from ragsvc.shares import SERVICE, Shares, holder_now
from ragsvc.telemetry.metrics import DB_ACQUIRE_WAIT, DB_CONNECTIONS_IN_USE, DB_CONNECTIONS_MAX
from ragsvc.telemetry.traces import is_tracing, record_span

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    import numpy as np
    from asyncpg.connection import LoggedQuery
    from asyncpg.pool import PoolConnectionProxy
    from numpy.typing import NDArray

    from ragsvc.db.connections.sessions import Session
    from ragsvc.settings.settings import Settings

    Record = asyncpg.Record
    Connection = asyncpg.Connection[Record] | PoolConnectionProxy[Record]

UniqueViolation = asyncpg.UniqueViolationError
InsufficientPrivilege = asyncpg.InsufficientPrivilegeError
ForeignKeyViolation = asyncpg.ForeignKeyViolationError
# Errors that the driver raises for a lost connection.
_LOST_CONNECTION = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
# Postgres is unavailable, restarting or overloaded; the request can be retried.
DATABASE_TROUBLE = (
    *_LOST_CONNECTION,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    TimeoutError,
)

# Settings that are sent in the startup packet of every connection, so they cost no round trip. `plan_cache_mode`
# prevents the reuse of plans that were made for a workspace of a different size. The TCP settings end the
# transaction of a client whose machine has vanished; otherwise Postgres would keep it, with its locks, for two hours.
# Behind a transaction pooler, set them with ALTER ROLE … SET.
SESSION_SETTINGS = {
    "application_name": "ragsvc",
    "timezone": "UTC",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "30s",
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30s",
    "plan_cache_mode": "force_custom_plan",
    "hnsw.iterative_scan": "relaxed_order",
    "hnsw.ef_search": "600",
    "jit": "off",
}
JSONB_VERSION = b"\x01"
# The first table named in a statement.
_TARGET = re.compile(r"\b(?:FROM|INTO|UPDATE)\s+([a-z_][a-z0-9_]*)")
MAX_STATEMENT_CHARS = 2000
# Longest wait of a request for a connection.
MAX_WAIT_S = 10.0


class Pool:
    """The process's connections, with metrics of their use and of the time spent waiting for one.

    Statements run as `ragsvc_system`, which sees all workspaces. After `scoped_to` they run as `ragsvc_app`.
    """

    def __init__(
        self,
        pool: asyncpg.Pool[Record],
        shares: Shares,
        *,
        has_sessions: bool,
        scope: UUID | SpecialScope = SpecialScope.SYSTEM,
    ) -> None:
        self._pool = pool
        self._shares = shares
        self._has_sessions = has_sessions
        self._scope = scope

    def scoped_to(self, workspace_id: UUID) -> Pool:
        """Return a view of the pool whose statements can only see rows of this workspace."""
        return Pool(self._pool, self._shares, has_sessions=self._has_sessions, scope=workspace_id)

    async def can_isolate(self) -> bool:
        """Return whether row-level security isolates workspaces; otherwise only conditions in statements do."""
        async with self._acquire() as (_connection, session):
            return session.can_isolate

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """Wait for a connection, and return it to the pool after the `async with` body.

        Raises:
            Overloaded: the request's workspace did not get a connection within MAX_WAIT_S.
        """
        async with self._acquire() as (connection, session):
            if session.can_isolate and self._has_sessions:
                await session.enter(connection, self._scope)
            elif session.can_isolate and isinstance(self._scope, UUID):
                yield cast("Connection", LocalConnection(connection, self._scope))
                return
            # Behind a transaction pooler, the login itself has the rights of `ragsvc_system`.
            yield connection

    @asynccontextmanager
    async def acquire_for_lookup(self) -> AsyncIterator[LookupConnection]:
        """Acquire a connection, whatever its scope, for a statement that finds the caller's workspace and enters it.

        The pool hands out the most recently returned connection first, so the caller's next statement usually gets this
        connection, already in the right scope, which saves a round trip.
        """
        async with self._acquire() as (connection, session):
            lookup = LookupConnection(connection, enters_workspace=self._has_sessions and session.can_isolate)
            session.scope = SpecialScope.UNKNOWN
            yield lookup
            session.scope = lookup.workspace_id or SpecialScope.UNKNOWN

    @asynccontextmanager
    async def _acquire(self) -> AsyncIterator[tuple[Connection, Session]]:
        async with AsyncExitStack() as stack:
            with DB_ACQUIRE_WAIT.time():
                # Leases and jobs do not take turns with requests: they wait for the next free connection.
                if holder_now.get() != SERVICE:
                    await stack.enter_async_context(self._shares.hold())
                connection = await self._pool.acquire()
            with DB_CONNECTIONS_IN_USE.track_inprogress():
                try:
                    with connection.query_logger(_trace_query) if is_tracing() else nullcontext():
                        yield connection, cast("SessionConnection", connection).session
                finally:
                    await self._pool.release(connection)


def _trace_query(query: LoggedQuery) -> None:
    """Record a span for a statement, without its parameters. The driver calls this when the result has arrived."""
    statement = query.query.strip().rstrip(";")
    target = _TARGET.search(statement)
    summary = f"{statement.split(maxsplit=1)[0].upper()} {target[1] if target else ''}".strip()
    record_span(
        summary,
        {"db.system.name": "postgresql", "db.query.summary": summary, "db.query.text": statement[:MAX_STATEMENT_CHARS]},
        duration_s=query.elapsed,
        code=type(query.exception).__name__ if query.exception else None,
    )


async def connect(dsn: str) -> asyncpg.Connection[Record]:
    """Return a single connection for migrations.

    Raises:
        StartupRefused: Postgres cannot be reached or refuses the login.
    """
    try:
        return await asyncpg.connect(dsn, timeout=10)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise StartupRefused(f"Postgres at DATABASE_URL cannot be used: {error or type(error).__name__}") from error


@asynccontextmanager
async def open_pool(settings: Settings, *, size: int) -> AsyncIterator[Pool]:
    """Open a pool of at most `size` connections with codecs for jsonb and halfvec.

    Raises:
        StartupRefused: Postgres cannot be reached or refuses the login.
    """
    cached = settings.stores.database_statement_cache
    try:
        pool = await asyncpg.create_pool(
            settings.stores.database_url.get_secret_value(),
            min_size=1,
            max_size=size,
            init=_open_session,
            connection_class=SessionConnection,
            reset=_skip_reset,
            timeout=10,
            command_timeout=60,
            statement_cache_size=256 if cached else 0,
            server_settings=SESSION_SETTINGS if cached else None,
        )
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise StartupRefused(f"Postgres at DATABASE_URL cannot be used: {error or type(error).__name__}") from error
    DB_CONNECTIONS_MAX.inc(size)
    try:
        yield Pool(pool, Shares("database", size, max_wait_s=MAX_WAIT_S), has_sessions=cached)
    finally:
        DB_CONNECTIONS_MAX.dec(size)
        # `close` waits until all connections are returned; those still in use after 5 s are terminated.
        try:
            await asyncio.wait_for(pool.close(), 5)
        except TimeoutError:
            pool.terminate()


async def _skip_reset(_connection: Connection) -> None:
    """Replace the driver's reset, which costs a round trip: no session state has to be undone.

    The driver still rolls back an open transaction.
    """


async def _open_session(connection: asyncpg.Connection[Record]) -> None:
    await _register_codecs(connection)
    cast("SessionConnection", connection).session.can_isolate = await connection.fetchval(SELECT_CAN_ISOLATE)


async def _register_codecs(connection: asyncpg.Connection[Record]) -> None:
    # asyncpg's own codec returns a subclass of UUID, which orjson cannot serialize.
    await connection.set_type_codec(
        "uuid", schema="pg_catalog", format="binary", encoder=_encode_uuid, decoder=_decode_uuid
    )
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", format="binary", encoder=_encode_jsonb, decoder=_decode_jsonb
    )
    try:
        await connection.set_type_codec(
            "halfvec", schema="public", format="binary", encoder=_encode_halfvec, decoder=_decode_halfvec
        )
    except ValueError as error:
        raise StartupRefused("The database has no pgvector yet: run `ragsvc migrate`") from error


def _encode_uuid(value: UUID) -> bytes:
    return value.bytes


# Cached because the same few ids occur often: those of a workspace, its collections and its documents.
@lru_cache(maxsize=8192)
def _decode_uuid(data: bytes) -> UUID:
    return UUID(bytes=data)


def _encode_jsonb(value: object) -> bytes:
    return JSONB_VERSION + orjson.dumps(value)


def _decode_jsonb(data: bytes) -> object:
    return orjson.loads(data[1:])


def halfvec_array(vectors: Iterable[NDArray[np.floating]]) -> list[HalfVector]:
    """Return vectors as a halfvec[] parameter; the driver would treat NumPy arrays as further array dimensions."""
    return [HalfVector(vector) for vector in vectors]


def _encode_halfvec(vector: NDArray[np.floating] | HalfVector) -> bytes:
    return (vector if isinstance(vector, HalfVector) else HalfVector(vector)).to_binary()


def _decode_halfvec(data: bytes) -> NDArray[np.float16]:
    return HalfVector.from_binary(data).to_numpy()


def is_transient(error: BaseException) -> bool:
    """Return whether a driver error is temporary: a conflict, restart, lost connection or exhausted resource."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state in {"40001", "40P01", "55P03", "57014"} or state[:2] in {"08", "53", "57", "58"}
    return isinstance(error, _LOST_CONNECTION)

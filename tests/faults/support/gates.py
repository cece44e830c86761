"""Stop points inside transactions, where a trigger makes a worker wait for a lock that the test holds."""

from __future__ import annotations

from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING

import asyncpg

from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

COMMIT = "commit"
LOCK_CLASS = 7261
# At a stage, the worker waits before its progress report locks the job, so that the job's lease can still be renewed.
# At `commit`, it waits in the COMMIT of the transaction that changes the active build.
INSTALL = f"""
CREATE TABLE fault_gates (subject_id uuid NOT NULL, stop_point text NOT NULL, number integer NOT NULL);
GRANT SELECT ON fault_gates TO PUBLIC;
CREATE FUNCTION wait_at_gate(subject uuid, reached text) RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock_shared({LOCK_CLASS}, number)
    FROM fault_gates WHERE subject_id = subject AND stop_point = reached
$$;
CREATE FUNCTION wait_at_stage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM wait_at_gate(NEW.id, NEW.stage); RETURN NEW; END $$;
CREATE FUNCTION wait_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM wait_at_gate(NEW.id, '{COMMIT}'); RETURN NULL; END $$;
CREATE TRIGGER wait_at_stage BEFORE UPDATE OF stage ON documents FOR EACH ROW EXECUTE FUNCTION wait_at_stage();
CREATE CONSTRAINT TRIGGER wait_at_commit AFTER UPDATE OF active_build ON documents
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_at_commit();
"""  # noqa: S608 - made of constants
WAITING = """
SELECT pid FROM pg_locks
WHERE locktype = 'advisory' AND classid = $1 AND objid = $2 AND NOT granted AND database = (
    SELECT oid FROM pg_database WHERE datname = current_database())
"""


class Gate:
    """The gate of one document at one stop point."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], number: int) -> None:
        self._connection = connection
        self._number = number

    async def reached(self, *, timeout_s: float = 30) -> int:
        """Wait until a worker has reached the gate, and return the pid of its Postgres backend."""

        async def find_waiting() -> int | None:
            pid: int | None = await self._connection.fetchval(WAITING, LOCK_CLASS, self._number)
            return pid

        return await until(find_waiting, timeout_s=timeout_s, what="a worker at the gate")


class Gates:
    """The gates of one database."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._numbers = count(1)

    async def install(self) -> None:
        """Create the triggers in the database."""
        connection = await asyncpg.connect(self._dsn)
        try:
            await connection.execute(INSTALL)
        finally:
            await connection.close()

    @asynccontextmanager
    async def closed(self, document_id: UUID, stop_point: str) -> AsyncIterator[Gate]:
        """Hold every worker that reaches the stop point with this document until the `with` block ends."""
        number = next(self._numbers)
        connection = await asyncpg.connect(self._dsn)
        try:
            await connection.execute("SELECT pg_advisory_lock($1, $2)", LOCK_CLASS, number)
            await connection.execute("INSERT INTO fault_gates VALUES ($1, $2, $3)", document_id, stop_point, number)
            yield Gate(connection, number)
            # Remove the row before the lock is released, so that no worker waits at the gate again.
            await connection.execute("DELETE FROM fault_gates WHERE number = $1", number)
        finally:
            await connection.close()

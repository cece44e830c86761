"""Removes the vector indexes, for benchmarks of ingestion."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ragsvc.db.connections.pool import Connection


async def drop_indexes(conn: Connection) -> None:
    """Drop the vector indexes, since the peers have none; keep the keys and the text index."""
    async with conn.transaction():
        # Tables are owned by the migrating role.
        await conn.execute("SET LOCAL ROLE NONE")
        for name in await conn.fetch(
            "SELECT indexrelid::regclass::text AS name FROM pg_index JOIN pg_class c ON c.oid = indexrelid"
            " JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'hnsw' AND c.relkind = 'I'"
        ):
            await conn.execute(f"DROP INDEX {name['name']}")

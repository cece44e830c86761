"""The Idempotency-Key that these tests send, and helpers for the rows that requests leave behind in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ragsvc.resources import Resources

KEY = {"Idempotency-Key": "the-first-try"}
REPLAYED = "Idempotent-Replayed"


async def count(resources: Resources, table: str) -> int:
    """Return the number of rows of a table in all workspaces."""
    async with resources.pool.acquire() as conn:
        counted: int = await conn.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - a constant table name
        return counted


async def forget_response(resources: Resources, key: str = KEY["Idempotency-Key"]) -> None:
    """Reset the stored call to the state that a crash between commit and response leaves behind, its lease expired."""
    async with resources.pool.acquire() as conn:
        changed = await conn.execute(
            "UPDATE idempotency_keys SET status = NULL, body = NULL, document_ids = '{}', lease_until = now()"
            " WHERE key = $1",
            key,
        )
    assert changed == "UPDATE 1"

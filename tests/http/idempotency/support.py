"""An Idempotency-Key, and the rows that requests leave."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ragsvc.resources import Resources

KEY = {"Idempotency-Key": "the-first-try"}
REPLAYED = "Idempotent-Replayed"


async def count(resources: Resources, table: str) -> int:
    """Count a table's rows, of all workspaces."""
    async with resources.pool.acquire() as conn:
        counted: int = await conn.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - a table of ours
        return counted


async def forget_answer(resources: Resources, key: str = KEY["Idempotency-Key"]) -> None:
    """Leave what a process leaves that dies between its commit and its answer, once its lease is over."""
    async with resources.pool.acquire() as conn:
        changed = await conn.execute(
            "UPDATE idempotency_keys SET status = NULL, body = NULL, document_ids = '{}', lease_until = now()"
            " WHERE key = $1",
            key,
        )
    assert changed == "UPDATE 1"

"""Removes stale builds: those that were never finalized, and superseded versions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ragsvc.db import canonical_text, chunks, embedding_spaces
from ragsvc.telemetry.sweep_items import record_failed_item

if TYPE_CHECKING:
    from ragsvc.db.canonical_text import BuildKey
    from ragsvc.db.connections.pool import Connection
    from ragsvc.resources import Resources

BATCH = 1000
# Time limit of one sweep: the sweeper has other tasks, and the next sweep follows soon.
SWEEP_S = 2.0
# Delay before a build that could not be removed is tried again.
RETRY_S = 300.0


async def sweep_builds(resources: Resources) -> int:
    """Delete the chunks of stale builds, for at most SWEEP_S seconds, and return how many rows were deleted.

    Safe to run in several processes at once: each works on builds that the others have not locked.
    """
    removed, end = 0, time.monotonic() + SWEEP_S
    while time.monotonic() < end:
        build: BuildKey | None = None
        try:
            async with resources.pool.acquire() as conn, conn.transaction():
                build = await canonical_text.lock_left_over_build(conn)
                if build is None:
                    break
                removed += await _remove_batch(conn, build)
        except Exception as error:
            if build is None:
                raise
            record_failed_item("build", build, error)
            await _postpone(resources, build)
    return removed


async def sweep_superseded_texts(resources: Resources) -> int:
    """Delete superseded texts whose retention for citations has expired and return their number."""
    async with resources.pool.acquire() as conn, conn.transaction():
        return await canonical_text.delete_expired_texts(conn, limit=BATCH)


async def _postpone(resources: Resources, build: BuildKey) -> None:
    async with resources.pool.acquire() as conn:
        await canonical_text.postpone_build(conn, build, delay_s=RETRY_S)


async def _remove_batch(conn: Connection, build: BuildKey) -> int:
    counts = [
        await chunks.delete_chunk_vectors(
            conn, build.workspace_id, [build.document_id], space=space, build_id=build.build_id, limit=BATCH
        )
        for space in await embedding_spaces.select_embedding_spaces(conn)
    ]
    counts.append(
        await chunks.delete_chunk_texts(
            conn, build.workspace_id, [build.document_id], build_id=build.build_id, limit=BATCH
        )
    )
    if max(counts) < BATCH:
        await canonical_text.settle_left_over_build(conn, build)
    return sum(counts)

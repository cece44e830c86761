"""Looks whether a process's surroundings are as they have to be, and says in a sentence what is not.

What a process cannot run without (Postgres, pgvector, the schema, the embedding space) is checked by
`resources.open_resources`, which refuses the start. All this is worth a warning: it can pass, or hurts some work only.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from ragsvc.db import workspaces
from ragsvc.db.connections.pool import DATABASE_TROUBLE
from ragsvc.domain.ids import new_id
from ragsvc.errors import WorkError, describe_error
from ragsvc.queue.connection import REDIS_TROUBLE
from ragsvc.queue.server_checks import find_redis_faults

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ragsvc.domain.workspaces import Location
    from ragsvc.resources import Resources

    Check = Callable[[Resources], Awaitable[Sequence[str]]]

CHECK_TIMEOUT_S = 10.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look at a part of the surroundings found; without faults the part is as it has to be."""

    part: str
    faults: tuple[str, ...] = ()


async def warn_of_faults(resources: Resources) -> None:
    """Log what is wrong with the roles in Postgres, Redis and the store, once, while the process starts to work."""
    checks: dict[str, Check] = {"roles": check_roles, "redis": check_redis, "store": check_store}
    for finding in await _look(resources, checks):
        for fault in finding.faults:
            log.warning("surroundings_at_fault", part=finding.part, fault=fault)


async def check_all(resources: Resources) -> list[Finding]:
    """Look at everything; the store is written to, and the embedding model is asked for a vector."""
    return await _look(
        resources,
        {
            "roles": check_roles,
            "redis": check_redis,
            "store": check_store,
            "store rights": check_store_rights,
            "embedding": check_embedding,
        },
    )


async def check_roles(resources: Resources) -> Sequence[str]:
    """Return what is wrong with the roles in Postgres."""
    try:
        if await resources.pool.can_isolate():
            return []
    except DATABASE_TROUBLE as error:
        return [f"Postgres cannot be asked: {describe_error(error)}"]
    return ["Row-level security is off, so only our own statements keep workspaces apart: `ragsvc migrate` says why"]


async def check_redis(resources: Resources) -> Sequence[str]:
    """Return what is wrong with Redis."""
    try:
        return await find_redis_faults(resources.redis)
    except REDIS_TROUBLE as error:
        return [f"Redis at REDIS_URL cannot be used: {describe_error(error)}"]


async def check_store(resources: Resources) -> Sequence[str]:
    """Return what is wrong with the object store, as far as a question tells."""
    try:
        await resources.storage.ping()
    except WorkError as error:
        return [f"The object store at S3_ENDPOINT_URL cannot be used: {error.detail}"]
    return []


async def check_store_rights(resources: Resources) -> Sequence[str]:
    """Return what the credentials may not do, after storing and removing a small object."""
    try:
        location = await _find_location(resources)
    except DATABASE_TROUBLE as error:
        return [f"Postgres did not tell a bucket: {describe_error(error)}"]
    if location is None:
        return []
    key = f"{location.key_prefix}check-{new_id().hex}"
    try:
        await resources.storage.put_object(location.bucket, key, body=b"ragsvc check", metadata={})
        await resources.storage.delete_object(location.bucket, key)
    except WorkError as error:
        return [f"The credentials do not let objects be stored and removed in {location.bucket}: {error.detail}"]
    return []


async def check_embedding(resources: Resources) -> Sequence[str]:
    """Return what is wrong with the embedding model, its dimensions included."""
    try:
        await resources.llm.ping()
    except WorkError as error:
        return [f"{resources.settings.llm.embedding_model} at OPENAI_BASE_URL cannot be used: {error.detail}"]
    return []


async def _look(resources: Resources, checks: dict[str, Check]) -> list[Finding]:
    async def run(part: str, check: Check) -> Finding:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                return Finding(part, tuple(await check(resources)))
        except TimeoutError:
            return Finding(part, (f"no answer within {CHECK_TIMEOUT_S:g} s",))

    return list(await asyncio.gather(*(run(part, check) for part, check in checks.items())))


async def _find_location(resources: Resources) -> Location | None:
    """Return the bucket of the newest workspace; None where there is none yet."""
    async with resources.pool.acquire() as conn:
        newest = await workspaces.select_workspaces(conn, limit=1)
    return newest[0].location if newest else None

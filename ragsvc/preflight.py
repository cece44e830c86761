"""Checks the dependencies of a process and describes each fault in a sentence.

`resources.open_resources` checks what a process cannot run without (Postgres, pgvector, the schema, the embedding
space) and refuses to start. The faults found here only cause warnings, since they can be temporary or affect only some
work.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from ragsvc.db import embedding_spaces, workspaces
from ragsvc.db.connections.pool import DATABASE_TROUBLE
from ragsvc.db.migrations import COUNTED_DOCUMENTS, check_schema, describe_count
from ragsvc.domain.ids import new_id
from ragsvc.errors.base import StartupRefused, describe_error
from ragsvc.errors.work import WorkError
from ragsvc.queue.connection import REDIS_TROUBLE
from ragsvc.queue.server_checks import find_redis_faults

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.documents import EmbeddingSpace
    from ragsvc.domain.workspaces import Location
    from ragsvc.resources import Resources

    Check = Callable[[Resources], Awaitable[Sequence[str]]]

CHECK_TIMEOUT_S = 10.0
SHORTEST_ADMIN_KEY = 20

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; without faults, the part works."""

    part: str
    faults: tuple[str, ...] = ()


async def warn_of_faults(resources: Resources) -> None:
    """Log faults that need no call to a model and no write, once at startup."""
    checks: dict[str, Check] = {
        "roles": check_roles,
        "embedding space": check_embedding_space,
        "admin key": check_admin_keys,
        "redis": check_redis,
        "store": check_store,
    }
    for finding in await _run_checks(resources, checks):
        for fault in finding.faults:
            log.warning("dependency_fault_found", part=finding.part, fault=fault)


async def check_service(resources: Resources) -> list[Finding]:
    """Check Postgres and its schema, then everything else."""
    try:
        async with resources.pool.acquire() as conn:
            await check_schema(conn, resources.settings)
    except StartupRefused as refused:
        return [Finding("postgres", (refused.detail,))]
    except DATABASE_TROUBLE as error:
        return [Finding("postgres", (f"Postgres cannot be reached: {describe_error(error)}",))]
    return [Finding("postgres"), *await check_all(resources)]


async def check_all(resources: Resources) -> list[Finding]:
    """Run all checks; this writes to the object store and calls every model."""
    return await _run_checks(
        resources,
        {
            "roles": check_roles,
            "embedding space": check_embedding_space,
            "redis": check_redis,
            "store": check_store,
            "store rights": check_store_rights,
            "embedding": check_embedding,
            "chat": check_chat,
            "reranker": check_reranker,
            "admin key": check_admin_keys,
        },
    )


async def check_roles(resources: Resources) -> Sequence[str]:
    """Return the faults of the Postgres roles."""
    try:
        if await resources.pool.can_isolate():
            return []
    except DATABASE_TROUBLE as error:
        return [f"Postgres cannot be reached: {describe_error(error)}"]
    return ["Row-level security is off, so only SQL conditions isolate workspaces: `ragsvc migrate` logs the reason"]


async def check_embedding_space(resources: Resources) -> Sequence[str]:
    """Return whether documents have their vectors in another space than the one that is searched."""
    try:
        async with resources.pool.acquire() as conn:
            notice = await describe_stale_documents(conn, resources.space)
    except DATABASE_TROUBLE as error:
        return [f"Postgres cannot be reached: {describe_error(error)}"]
    return [notice] if notice else []


async def describe_stale_documents(conn: Connection, space: EmbeddingSpace) -> str | None:
    """Return a sentence about documents whose vectors are in another space; None if there are none."""
    count = await embedding_spaces.count_documents_of_other_spaces(conn, space.id, limit=COUNTED_DOCUMENTS)
    if count == 0:
        return None
    verb = "is" if count == 1 else "are"
    return (
        f"{describe_count(count)} {verb} not in the current embedding space ({space.model}, {space.dimensions}"
        f" dimensions, revision {space.revision}), so searches find them only by their words: ingest them again with"
        " POST /v1/documents/bulk-reingest"
    )


async def check_redis(resources: Resources) -> Sequence[str]:
    """Return the faults of Redis."""
    try:
        return await find_redis_faults(resources.redis)
    except REDIS_TROUBLE as error:
        return [f"Redis at REDIS_URL cannot be used: {describe_error(error)}"]


async def check_store(resources: Resources) -> Sequence[str]:
    """Return the faults of the object store that a read-only request reveals."""
    try:
        await resources.storage.ping()
    except WorkError as error:
        return [f"The object store at S3_ENDPOINT_URL cannot be used: {error.detail}"]
    return []


async def check_store_rights(resources: Resources) -> Sequence[str]:
    """Store and remove a small object, and return the permissions that the credentials lack."""
    try:
        location = await _find_location(resources)
    except DATABASE_TROUBLE as error:
        return [f"No bucket could be read from Postgres: {describe_error(error)}"]
    if location is None:
        return []
    key = f"{location.key_prefix}check-{new_id().hex}"
    try:
        await resources.storage.put_object(location.bucket, key, body=b"ragsvc check", metadata={})
        await resources.storage.delete_object(location.bucket, key)
    except WorkError as error:
        return [f"The credentials cannot store and remove objects in {location.bucket}: {error.detail}"]
    return []


async def check_embedding(resources: Resources) -> Sequence[str]:
    """Return the faults of the embedding model, including wrong dimensions."""
    try:
        await resources.llm.ping()
    except WorkError as error:
        llm = resources.settings.llm
        return [f"{llm.embedding_model} at {llm.embedding_server.setting} cannot be used: {error.detail}"]
    return []


async def check_chat(resources: Resources) -> Sequence[str]:
    """Return the faults of the chat models, found by asking each of them for a word."""
    llm = resources.settings.llm
    faults = []
    for model in sorted(llm.allowed_chat_models):
        try:
            await resources.llm.ping_chat(model)
        except WorkError as error:
            faults.append(f"{model} at {llm.chat_server.setting} cannot be used: {error.detail}")
    return faults


async def check_reranker(resources: Resources) -> Sequence[str]:
    """Return the faults of the reranker, if one is set."""
    if resources.llm.reranker is None:
        return []
    try:
        await resources.llm.reranker.score("ping", ["pong"])
    except WorkError as error:
        return [f"The reranker at RERANK_BASE_URL cannot be used: {error.detail}"]
    return []


async def check_admin_keys(resources: Resources) -> Sequence[str]:
    """Return whether a key of the operators is easy to guess."""
    return [
        f"The key of {label} has {len(key)} characters, fewer than {SHORTEST_ADMIN_KEY}: choose a random one, for"
        " example with `openssl rand -hex 24`"
        for label, key in resources.settings.api.admin_keys.items()
        if len(key) < SHORTEST_ADMIN_KEY
    ]


async def _run_checks(resources: Resources, checks: dict[str, Check]) -> list[Finding]:
    async def run(part: str, check: Check) -> Finding:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                return Finding(part, tuple(await check(resources)))
        except TimeoutError:
            return Finding(part, (f"no response within {CHECK_TIMEOUT_S:g} s",))

    return list(await asyncio.gather(*(run(part, check) for part, check in checks.items())))


async def _find_location(resources: Resources) -> Location | None:
    """Return the location of the newest workspace; None if there is no workspace yet."""
    async with resources.pool.acquire() as conn:
        newest = await workspaces.select_workspaces(conn, limit=1)
    return newest[0].location if newest else None

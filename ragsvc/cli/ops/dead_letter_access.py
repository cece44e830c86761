"""How the dead-letter commands reach the dead letters: over the admin API, or in Postgres on a server without one."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ragsvc.cli.client.http import Refused, open_client, segment
from ragsvc.cli.ops.context import open_context
from ragsvc.domain.ids import format_id
from ragsvc.errors.requests import ReplayRunning
from ragsvc.jobs import dead_letters
from ragsvc.jobs.dead_letters import DiscardResult, ReplayResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from ragsvc.cli.client.http import Client, JsonObject
    from ragsvc.domain.jobs import DeadLetterFilter, Queue
    from ragsvc.resources import Resources

PAGE = 100
NOT_FOUND = 404


class DeadLetterAccess(Protocol):
    """The dead letters of one service."""

    async def list(self, queue: Queue, wanted: DeadLetterFilter, *, limit: int, offset: int) -> list[dict[str, object]]:
        """Return entries, newest first."""

    async def get(self, queue: Queue, selected: UUID, generation: int | None) -> dict[str, object] | None:
        """Return the entry that a parsed id selects, or None."""

    async def count(self, queue: Queue) -> dict[str, int]:
        """Return the number of entries by error code."""

    async def replay(
        self, queue: Queue, wanted: DeadLetterFilter, *, rate_per_s: float | None, limit: int | None, dry_run: bool
    ) -> ReplayResult:
        """Replay entries.

        Raises:
            ReplayRunning: another replay of the queue is running.
        """

    async def discard(
        self, queue: Queue, wanted: DeadLetterFilter, *, limit: int | None, dry_run: bool
    ) -> DiscardResult:
        """Discard entries."""


@asynccontextmanager
async def open_access() -> AsyncIterator[DeadLetterAccess]:
    """Yield the dead letters of the service that the command was pointed at.

    On a server, DATABASE_URL is set and RAGSVC_URL is not: then Postgres is used, so no API needs to run.
    """
    if os.environ.get("DATABASE_URL") and not os.environ.get("RAGSVC_URL"):
        async with open_context() as context:
            yield OnDatabase(context)
    else:
        async with open_client(admin=True) as client:
            yield OverApi(client)


@dataclass(frozen=True, slots=True)
class OverApi:
    """The dead letters of a service, over its admin API."""

    client: Client

    async def list(self, queue: Queue, wanted: DeadLetterFilter, *, limit: int, offset: int) -> list[dict[str, object]]:
        """Return entries, newest first."""
        found: list[dict[str, object]] = []
        params = {**_selection(wanted), "limit": min(limit + offset, PAGE)}
        while len(found) < limit + offset:
            page = await self.client.get(f"/v1/admin/dlq/{queue}", params=params)
            found += page["data"]
            params["cursor"] = page["next_cursor"]
            if page["next_cursor"] is None:
                break
        return found[offset : offset + limit]

    async def get(self, queue: Queue, selected: UUID, generation: int | None) -> dict[str, object] | None:
        """Return the entry that a parsed id selects, or None."""
        entry = selected.hex if generation is None else f"{selected.hex}:{generation}"
        try:
            return await self.client.get(f"/v1/admin/dlq/{queue}/{segment(entry)}")
        except Refused as refused:
            if refused.status == NOT_FOUND:
                return None
            raise

    async def count(self, queue: Queue) -> dict[str, int]:
        """Return the number of entries by error code."""
        counted: dict[str, int] = (await self.client.get(f"/v1/admin/dlq/{queue}/counts"))["counts"]
        return counted

    async def replay(
        self, queue: Queue, wanted: DeadLetterFilter, *, rate_per_s: float | None, limit: int | None, dry_run: bool
    ) -> ReplayResult:
        """Replay entries; raises like `DeadLetterAccess.replay`."""
        body = _body(wanted, limit=limit, dry_run=dry_run)
        if rate_per_s is not None:
            body["rate"] = rate_per_s
        try:
            return ReplayResult(**await self.client.post(f"/v1/admin/dlq/{queue}/replay", body=body))
        except Refused as refused:
            if refused.code == ReplayRunning.code:
                raise ReplayRunning from refused
            raise

    async def discard(
        self, queue: Queue, wanted: DeadLetterFilter, *, limit: int | None, dry_run: bool
    ) -> DiscardResult:
        """Discard entries."""
        body = _body(wanted, limit=limit, dry_run=dry_run)
        return DiscardResult(**await self.client.post(f"/v1/admin/dlq/{queue}/purge", body=body))


@dataclass(frozen=True, slots=True)
class OnDatabase:
    """The dead letters in Postgres and Redis."""

    context: Resources

    async def list(self, queue: Queue, wanted: DeadLetterFilter, *, limit: int, offset: int) -> list[dict[str, object]]:
        """Return entries, newest first."""
        return await dead_letters.list_dead_letters(self.context, queue, wanted, limit=limit, offset=offset)

    async def get(self, queue: Queue, selected: UUID, generation: int | None) -> dict[str, object] | None:
        """Return the entry that a parsed id selects, or None."""
        return await dead_letters.get_dead_letter(self.context, queue, selected, generation)

    async def count(self, queue: Queue) -> dict[str, int]:
        """Return the number of entries by error code."""
        return await dead_letters.count_dead_letters(self.context, queue)

    async def replay(
        self, queue: Queue, wanted: DeadLetterFilter, *, rate_per_s: float | None, limit: int | None, dry_run: bool
    ) -> ReplayResult:
        """Replay entries; raises like `DeadLetterAccess.replay`."""
        return await dead_letters.replay(
            self.context, queue, wanted, dry_run=dry_run, rate_per_s=rate_per_s, limit=limit
        )

    async def discard(
        self, queue: Queue, wanted: DeadLetterFilter, *, limit: int | None, dry_run: bool
    ) -> DiscardResult:
        """Discard entries."""
        return await dead_letters.discard_matching(self.context, queue, wanted, limit=limit, dry_run=dry_run)


def _selection(wanted: DeadLetterFilter) -> JsonObject:
    selected = {
        "ids": [one.hex for one in wanted.ids] if wanted.ids is not None else None,
        "code": wanted.code,
        "workspace_id": format_id("ws", wanted.workspace_id) if wanted.workspace_id else None,
        "since": wanted.since.isoformat() if wanted.since else None,
    }
    return {name: value for name, value in selected.items() if value is not None}


def _body(wanted: DeadLetterFilter, *, limit: int | None, dry_run: bool) -> JsonObject:
    selected = _selection(wanted) or {"all": True, "confirm": True}
    return {**selected, "dry_run": dry_run, **({"limit": limit} if limit is not None else {})}

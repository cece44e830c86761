"""Records when keys were last used, without delaying requests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from ragsvc.db.api_keys import update_last_use

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.api_keys import KeyOwner
    from ragsvc.domain.workspaces import ApiKey
    from ragsvc.resources import Resources

log = structlog.get_logger(__name__)


class KeyUses:
    """Writes the last use of each key in the background, at most once a minute per key."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._writing: dict[UUID, asyncio.Task[None]] = {}

    def record(self, owner: KeyOwner) -> None:
        """Record in the background that the key is in use, unless that was recorded within the last minute."""
        key = owner.key
        if owner.is_use_due and key.id not in self._writing:
            task = self._writing[key.id] = asyncio.create_task(self._write(key))
            task.add_done_callback(lambda _task: self._writing.pop(key.id, None))

    async def close(self) -> None:
        """Wait for pending writes."""
        await asyncio.gather(*self._writing.values())

    async def _write(self, key: ApiKey) -> None:
        try:
            async with self._resources.pool.acquire() as conn:
                await update_last_use(conn, key.workspace_id, key.id)
        except Exception as error:  # noqa: BLE001 - the next request with the key tries again
            log.warning("key_use_not_recorded", error=error)


KEY_USES = web.AppKey("key_uses", KeyUses)

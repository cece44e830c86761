"""When keys were last used, noted beside the requests."""

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
    """Notes uses of keys, each key's at most once a minute; no request waits for it."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._noting: dict[UUID, asyncio.Task[None]] = {}

    def note(self, owner: KeyOwner) -> None:
        """Note that the key is used now, if that is due."""
        key = owner.key
        if owner.is_use_due and key.id not in self._noting:
            task = self._noting[key.id] = asyncio.create_task(self._write(key))
            task.add_done_callback(lambda _task: self._noting.pop(key.id, None))

    async def close(self) -> None:
        """Wait for what is being noted."""
        await asyncio.gather(*self._noting.values())

    async def _write(self, key: ApiKey) -> None:
        try:
            async with self._resources.pool.acquire() as conn:
                await update_last_use(conn, key.workspace_id, key.id)
        except Exception as error:  # noqa: BLE001 - the next request with the key tries again
            log.warning("key_use_not_noted", error=error)


KEY_USES = web.AppKey("key_uses", KeyUses)

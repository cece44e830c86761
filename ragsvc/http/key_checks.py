"""Checks again whether a key is valid while its stream, download or upload goes on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from ragsvc.db.api_keys import is_key_valid
from ragsvc.db.connections.pool import DATABASE_TROUBLE
from ragsvc.errors.requests import Unauthorized
from ragsvc.shares import SERVICE, Holder, holder_now

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.resources import Resources

# A key is looked up at most this often, for all its streams and uploads of the process together.
MAX_AGE_S = 1.0
MAX_KNOWN = 10_000

log = structlog.get_logger(__name__)


class KeyChecks:
    """What the process knows about the keys that are in use."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._known: dict[Holder, tuple[float, bool]] = {}

    async def require_valid(self) -> None:
        """Check that the caller's key has not been revoked, and its workspace not closed, since the request began.

        While Postgres cannot be reached, what was last known counts.

        Raises:
            Unauthorized: the key is not valid any more.
        """
        holder = holder_now.get()
        if holder == SERVICE:
            return
        checked_at, is_valid = self._known.get(holder, (-MAX_AGE_S, True))
        if time.monotonic() - checked_at >= MAX_AGE_S:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            # Others that check meanwhile do not look up the key, too.
            self._known[holder] = (time.monotonic(), is_valid)
            is_valid = await self._look_up(holder, known=is_valid)
            self._known[holder] = (time.monotonic(), is_valid)
        if not is_valid:
            raise Unauthorized

    async def while_valid(self, blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the blocks while the caller's key is valid; raises like `require_valid`."""
        async for block in blocks:
            await self.require_valid()
            yield block

    async def _look_up(self, holder: Holder, *, known: bool) -> bool:
        try:
            async with self._resources.pool.scoped_to(holder.workspace_id).acquire() as conn:
                return await is_key_valid(conn, holder.workspace_id, holder.key_id)
        except DATABASE_TROUBLE as error:
            log.warning("key_not_checked", error=error)
            return known


KEY_CHECKS = web.AppKey("key_checks", KeyChecks)

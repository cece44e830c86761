"""A writer that has lost its lease cannot undo what its successor has stored."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ragsvc.storage.store import Storage
from ragsvc.uploads.tus import writers
from tests.http.tus.support import SMALL, append_once_unlocked, assert_stored, create, offset_of, patch

if TYPE_CHECKING:
    import pytest

    from ragsvc.resources import Resources
    from tests.http.conftest import Tenant

DEADLINE_S = 30.0


class Freezer:
    """Freezes the first call of a function of the store until the test thaws it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.has_begun = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self._call: Any = getattr(Storage, name)
        monkeypatch.setattr(Storage, name, self._wrap())

    def _wrap(self) -> Any:
        async def frozen(*arguments: Any, **options: Any) -> Any:
            if not self.has_begun.is_set():
                self.has_begun.set()
                await self.may_go_on.wait()
            return await self._call(*arguments, **options)

        return frozen


async def test_a_frozen_writer_does_not_overwrite_the_tail_of_its_successor(
    tenant: Tenant, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await create(tenant.api)
    freezer = Freezer(monkeypatch, "put_object")
    with monkeypatch.context() as patched:
        # The process is frozen after it has checked its lease, does not renew it, and does not notice its end.
        patched.setattr(writers, "LEASE_S", 3600.0)
        patched.setattr(writers, "RENEW_INTERVAL_S", 3600.0)
        first = asyncio.create_task(patch(tenant.api, path, 0, SMALL[:100]))
        await asyncio.wait_for(freezer.has_begun.wait(), DEADLINE_S)
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE upload_sessions SET writing_until = now() WHERE workspace_id = $1", tenant.uuid)
    assert (await append_once_unlocked(tenant.api, path, SMALL[:500], offset=0)).status == 204
    freezer.may_go_on.set()
    assert (await first).is_problem(423, "upload_locked")
    # The acknowledged bytes are still there, and nothing else is.
    assert await offset_of(tenant.api, path) == 500
    storage = resources.storage
    assert await storage.count_objects(tenant.bucket) == 1
    await assert_stored(tenant.api, await append_once_unlocked(tenant.api, path, SMALL[500:], offset=500), SMALL)
    assert await storage.count_objects(tenant.bucket) == 1

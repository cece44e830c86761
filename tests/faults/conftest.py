"""The shared fleet: started once, with killed workers replaced before each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.support.opening import open_fleet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.domain.workspaces import Workspace
    from ragsvc.settings.settings import Settings
    from tests.faults.support.fleet import Fleet
    from tests.support.servers.servers import Servers


@pytest.fixture(scope="session")
async def started_fleet(base_settings: Settings, template: str, servers: Servers) -> AsyncIterator[Fleet]:
    """The shared fleet; tests use `fleet`."""
    async with open_fleet(base_settings, template, servers) as fleet:
        yield fleet


@pytest.fixture
async def fleet(started_fleet: Fleet) -> AsyncIterator[Fleet]:
    """Two ingestion workers and a deletion worker, with no scripted behaviour and no running job."""
    await started_fleet.staff()
    yield started_fleet
    for endpoint in (started_fleet.models.embeddings, started_fleet.store.reads, started_fleet.store.deletes):
        endpoint.reset()


@pytest.fixture
async def workspace(fleet: Fleet) -> Workspace:
    """A workspace for one test."""
    return await fleet.make_workspace()

"""Postgres cut or restarted, also at a COMMIT: what is committed stays, the rest is done again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.faults.end_state import assert_ready_once, job_of
from tests.faults.gates import COMMIT
from tests.faults.texts import make_text

if TYPE_CHECKING:
    from ragsvc.models.workspaces import Workspace
    from tests.faults.fleet import Fleet

pytestmark = pytest.mark.xdist_group("faults")

TERMINATE_ALL = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'ragsvc' AND pid <> pg_backend_pid()
"""


async def cut_connections(fleet: Fleet) -> int:
    """End every connection of the fleet, and of the test as well; return how many there were."""
    async with fleet.resources.pool.acquire() as conn:
        ended: int = await conn.fetchval(TERMINATE_ALL)
        return ended


async def test_connections_cut_mid_commit(fleet: Fleet, workspace: Workspace) -> None:
    async with fleet.frozen():
        documents = [await fleet.accept(workspace, make_text()) for _ in range(4)]
        stopped = fleet.gates.closed(documents[0].id, COMMIT)
        gate = await stopped.__aenter__()
    await gate.reached()
    assert await cut_connections(fleet) >= 3
    await stopped.__aexit__(None, None, None)
    await assert_ready_once(fleet, workspace, documents)
    # Whether it is charged depends on where the connection was: the work itself failed.
    assert 1 <= (await job_of(fleet, documents[0])).attempts <= 2
    assert len(fleet.ingestion) == 2


@pytest.mark.parametrize("times", [pytest.param(3), pytest.param(40, marks=pytest.mark.chaos)])
async def test_connections_cut_again_and_again(fleet: Fleet, workspace: Workspace, times: int) -> None:
    documents = []
    for _ in range(times):
        documents += [await fleet.accept(workspace, make_text()) for _ in range(2)]
        await cut_connections(fleet)
        await asyncio.sleep(0.3)  # the next cut is to find something under way
    await assert_ready_once(fleet, workspace, documents, timeout_s=60 + 2 * times)
    assert len(fleet.ingestion) == 2

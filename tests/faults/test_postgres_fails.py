"""Postgres drops its connections or restarts, even during a COMMIT: uncommitted work is repeated."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import asyncpg
import pytest
from pydantic import SecretStr

from ragsvc.db.migrations import migrate
from tests.faults.support.end_state import assert_ready_once, job_of
from tests.faults.support.gates import COMMIT
from tests.faults.support.opening import open_fleet_on
from tests.faults.support.own_postgres import open_postgres
from tests.faults.support.texts import make_text
from tests.support.polling import until

if TYPE_CHECKING:
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.settings.settings import Settings
    from tests.faults.support.fleet import Fleet
    from tests.support.servers.servers import Servers

pytestmark = pytest.mark.xdist_group("faults")

RECOVERY_S = 30.0
TERMINATE_ALL = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'ragsvc' AND pid <> pg_backend_pid()
"""


async def cut_connections(fleet: Fleet) -> int:
    """Terminate every connection of the fleet and of the test, and return how many there were."""
    # The statement runs with the rights of the login role. It does not terminate its own connection.
    async with fleet.resources.pool.acquire() as conn, conn.transaction():
        await conn.execute("SET LOCAL ROLE NONE")
        ended: int = await conn.fetchval(TERMINATE_ALL)
        return ended


async def test_connections_cut_during_a_commit(fleet: Fleet, workspace: Workspace) -> None:
    async with fleet.frozen():
        documents = [await fleet.accept(workspace, make_text()) for _ in range(4)]
        stopped = fleet.gates.closed(documents[0].id, COMMIT)
        gate = await stopped.__aenter__()
    await gate.reached()
    assert await cut_connections(fleet) >= 3
    await stopped.__aexit__(None, None, None)
    await assert_ready_once(fleet, workspace, documents)
    # Whether an attempt was counted depends on which of the job's connections was cut.
    assert 1 <= (await job_of(fleet, documents[0])).attempts <= 2
    assert len(fleet.ingestion) == 2


@pytest.mark.parametrize("times", [pytest.param(3), pytest.param(40, marks=pytest.mark.chaos)])
async def test_connections_cut_repeatedly(fleet: Fleet, workspace: Workspace, times: int) -> None:
    documents = []
    for _ in range(times):
        documents += [await fleet.accept(workspace, make_text()) for _ in range(2)]
        await cut_connections(fleet)
        await asyncio.sleep(0.3)  # so that the next cut hits running work
    await assert_ready_once(fleet, workspace, documents, timeout_s=60 + 2 * times)
    assert len(fleet.ingestion) == 2


@pytest.mark.chaos
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
async def test_postgres_restarted_during_a_commit(
    base_settings: Settings, servers: Servers, number: signal.Signals
) -> None:
    async with open_postgres() as postgres:
        await migrate(base_settings.changed({"database_url": SecretStr(postgres.url)}))
        async with open_fleet_on(postgres.url, base_settings, servers) as fleet:
            await fleet.staff()
            workspace = await fleet.make_workspace()
            async with fleet.frozen():
                documents = [await fleet.accept(workspace, make_text()) for _ in range(4)]
                stopped = fleet.gates.closed(documents[0].id, COMMIT)
                gate = await stopped.__aenter__()
            await gate.reached()
            await postgres.end(number)
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await stopped.__aexit__(None, None, None)
            await asyncio.sleep(2)  # a short outage
            await postgres.start()
            await until(partial(is_reachable, fleet), timeout_s=RECOVERY_S, what="Postgres")
            await assert_ready_once(fleet, workspace, documents)
            assert len(fleet.ingestion) == 2


async def is_reachable(fleet: Fleet) -> bool:
    """Return whether the test's pool can connect again."""
    try:
        async with fleet.resources.pool.acquire() as conn:
            return bool(await conn.fetchval("SELECT true"))
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        return False

"""A node's clock that is ten minutes off delays no job, because Postgres's clock decides."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import time_machine

from tests.faults.support.end_state import assert_ready_once, job_of
from tests.faults.support.texts import make_text
from tests.support.servers.model_server import Fail

if TYPE_CHECKING:
    from ragsvc.domain.workspaces import Workspace
    from tests.faults.support.fleet import Fleet

pytestmark = pytest.mark.xdist_group("faults")

# The `arq` command with a shifted clock.
SHIFTED_ARQ = """
from datetime import UTC, datetime, timedelta
import time_machine
time_machine.travel(datetime.now(UTC) + timedelta(minutes={minutes}), tick=True).start()
from arq.cli import cli
cli()
"""


@pytest.mark.parametrize("minutes", [-10, 10])
async def test_a_clock_10_min_off_on_the_node_of_a_worker(fleet: Fleet, workspace: Workspace, minutes: int) -> None:
    async with fleet.frozen():
        shifted = await fleet.start_worker(launcher=("-c", SHIFTED_ARQ.format(minutes=minutes)))
        fleet.models.embeddings.script(Fail(503))
        documents = [await fleet.accept(workspace, make_text()) for _ in range(3)]
        await assert_ready_once(fleet, workspace, documents)
        await shifted.kill()
    assert sorted([(await job_of(fleet, document)).attempts for document in documents]) == [1, 1, 2]


@pytest.mark.parametrize("minutes", [-10, 10])
async def test_a_clock_10_min_off_on_the_node_of_the_api(fleet: Fleet, workspace: Workspace, minutes: int) -> None:
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=minutes), tick=True):
        documents = [await fleet.accept(workspace, make_text()) for _ in range(3)]
    await assert_ready_once(fleet, workspace, documents)
    assert {(await job_of(fleet, document)).attempts for document in documents} == {1}

"""The object store failing in the usual ways; and the one failure that no waiting mends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.support.end_state import (
    assert_dead,
    assert_ready_once,
    job_of,
    select_documents,
    until_settled,
)
from tests.faults.support.texts import make_text
from tests.support.servers.model_server import Cut, Fail, Pause

if TYPE_CHECKING:
    from ragsvc.domain.workspaces import Workspace
    from tests.faults.support.fleet import Fleet

pytestmark = pytest.mark.xdist_group("faults")

# The client itself asks four times before an attempt has failed.
ASKED = 4


async def test_s3_500(fleet: Fleet, workspace: Workspace) -> None:
    fleet.store.reads.script(*[Fail(500, code="InternalError")] * ASKED)
    document = await fleet.accept(workspace, make_text())
    await assert_ready_once(fleet, workspace, [document])
    assert (await job_of(fleet, document)).attempts == 2


async def test_s3_timeout(fleet: Fleet, workspace: Workspace) -> None:
    silent = [Pause() for _ in range(ASKED)]
    fleet.store.reads.script(*silent)
    document = await fleet.accept(workspace, make_text())
    await assert_ready_once(fleet, workspace, [document])
    assert all(pause.reached.is_set() for pause in silent)
    assert (await job_of(fleet, document)).attempts == 2


async def test_s3_cut_in_the_middle_of_an_object(fleet: Fleet, workspace: Workspace) -> None:
    times = 5
    fleet.store.reads.script(*[Cut()] * times)
    document = await fleet.accept(workspace, make_text(sections=50))
    await assert_ready_once(fleet, workspace, [document])
    assert (await job_of(fleet, document)).attempts == times + 1


async def test_s3_404(fleet: Fleet, workspace: Workspace) -> None:
    async with fleet.frozen():
        missing = await fleet.accept(workspace, make_text())
        neighbour = await fleet.accept(workspace, make_text())
        row = (await select_documents(fleet, workspace))[missing.id]
        assert await fleet.resources.storage.delete_object(row["bucket"], row["object_key"])
    await until_settled(fleet, workspace)
    await assert_dead(fleet, missing, code="object_missing", attempts=1)
    assert (await select_documents(fleet, workspace))[neighbour.id]["status"] == "ready"


async def test_the_store_out_of_reach(fleet: Fleet, workspace: Workspace) -> None:
    await fleet.way_to_store.cut()
    document = await fleet.accept(workspace, make_text())
    await fleet.until_failed(document)
    await fleet.way_to_store.mend()
    await assert_ready_once(fleet, workspace, [document])
    assert (await job_of(fleet, document)).attempts == 1

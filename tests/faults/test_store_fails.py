"""Failures of the object store: temporary ones are retried, and a missing object is permanent."""

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

# The S3 client itself sends a request four times before an attempt fails.
CLIENT_ATTEMPTS = 4


async def test_a_500_of_the_store(fleet: Fleet, workspace: Workspace) -> None:
    fleet.store.reads.script(*[Fail(500, code="InternalError")] * CLIENT_ATTEMPTS)
    document = await fleet.accept(workspace, make_text())
    await assert_ready_once(fleet, workspace, [document])
    assert (await job_of(fleet, document)).attempts == 2


async def test_a_timeout_of_the_store(fleet: Fleet, workspace: Workspace) -> None:
    pauses = [Pause() for _ in range(CLIENT_ATTEMPTS)]
    fleet.store.reads.script(*pauses)
    document = await fleet.accept(workspace, make_text())
    await assert_ready_once(fleet, workspace, [document])
    assert all(pause.reached.is_set() for pause in pauses)
    assert (await job_of(fleet, document)).attempts == 2


async def test_a_download_cut_in_the_middle(fleet: Fleet, workspace: Workspace) -> None:
    times = 5
    fleet.store.reads.script(*[Cut()] * times)
    document = await fleet.accept(workspace, make_text(sections=50))
    await assert_ready_once(fleet, workspace, [document])
    assert (await job_of(fleet, document)).attempts == times + 1


async def test_a_missing_object(fleet: Fleet, workspace: Workspace) -> None:
    async with fleet.frozen():
        missing = await fleet.accept(workspace, make_text())
        neighbour = await fleet.accept(workspace, make_text())
        row = (await select_documents(fleet, workspace))[missing.id]
        assert await fleet.resources.storage.delete_object(row["bucket"], row["object_key"])
    await until_settled(fleet, workspace)
    await assert_dead(fleet, missing, code="object_missing", attempts=1)
    assert (await select_documents(fleet, workspace))[neighbour.id]["status"] == "ready"


async def test_an_unreachable_store(fleet: Fleet, workspace: Workspace) -> None:
    await fleet.store_proxy.cut()
    document = await fleet.accept(workspace, make_text())
    await fleet.until_failed(document)
    await fleet.store_proxy.mend()
    await assert_ready_once(fleet, workspace, [document])
    assert (await job_of(fleet, document)).attempts == 1

"""The embedding provider refuses, fails, hangs or is unreachable: jobs are retried only where that helps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ragsvc.db import queue_state
from ragsvc.domain.jobs import Queue
from tests.faults.support.end_state import (
    assert_consistent,
    assert_dead,
    assert_ready_once,
    job_of,
    until_settled,
)
from tests.faults.support.fleet import SOON_S
from tests.faults.support.texts import make_text
from tests.support.polling import until
from tests.support.servers.model_server import Cut, Fail, Pause

if TYPE_CHECKING:
    from ragsvc.domain.workspaces import Workspace
    from tests.faults.support.fleet import Fleet

pytestmark = pytest.mark.xdist_group("faults")


async def test_a_429_with_retry_after(fleet: Fleet, workspace: Workspace) -> None:
    embeddings, wait_s = fleet.models.embeddings, 2.0
    embeddings.script(Fail(429, retry_after_s=wait_s))
    document = await fleet.accept(workspace, make_text())
    await assert_ready_once(fleet, workspace, [document])
    refused_at, retried_at = embeddings.requested_at[:2]
    assert retried_at - refused_at >= wait_s
    assert (await job_of(fleet, document)).attempts == 2


@pytest.mark.parametrize("status", [500, 503])
async def test_a_5xx(fleet: Fleet, workspace: Workspace, status: int) -> None:
    fleet.models.embeddings.script(Fail(status), Fail(status))
    document = await fleet.accept(workspace, make_text())
    await assert_ready_once(fleet, workspace, [document])
    assert (await job_of(fleet, document)).attempts == 3


async def test_a_persistent_5xx(fleet: Fleet, workspace: Workspace) -> None:
    fleet.models.embeddings.usual = Fail(500)
    document = await fleet.accept(workspace, make_text())
    await until_settled(fleet, workspace)
    await assert_dead(fleet, document, code="embedding_unavailable", attempts=fleet.settings.jobs.max_attempts)
    await assert_consistent(fleet, workspace)


@pytest.mark.parametrize("failure", [Fail(429, code="insufficient_quota"), Fail(401), Fail(404)])
async def test_an_account_that_is_refused_pauses_the_queue_and_fails_no_document(
    fleet: Fleet, workspace: Workspace, failure: Fail
) -> None:
    fleet.models.embeddings.usual = failure
    documents = [await fleet.accept(workspace, make_text()) for _ in range(3)]

    async def is_paused() -> bool:
        async with fleet.resources.pool.acquire() as conn:
            outage = await queue_state.select_outage(conn, Queue.INGESTION)
        return outage is not None

    await until(is_paused, timeout_s=SOON_S)
    fleet.models.embeddings.usual = None
    await assert_ready_once(fleet, workspace, documents)
    for document in documents:
        assert (await job_of(fleet, document)).attempts == 1
    await assert_consistent(fleet, workspace)


async def test_a_hanging_connection(fleet: Fleet, workspace: Workspace) -> None:
    hanging = Pause()
    fleet.models.embeddings.script(hanging)
    document = await fleet.accept(workspace, make_text())
    await assert_ready_once(fleet, workspace, [document])
    assert hanging.reached.is_set()
    assert (await job_of(fleet, document)).attempts == 2


async def test_a_dropped_connection(fleet: Fleet, workspace: Workspace) -> None:
    fleet.models.embeddings.script(Cut())
    document = await fleet.accept(workspace, make_text())
    await assert_ready_once(fleet, workspace, [document])
    assert (await job_of(fleet, document)).attempts == 2


async def test_an_unreachable_model_server(fleet: Fleet, workspace: Workspace) -> None:
    await fleet.models_proxy.cut()
    document = await fleet.accept(workspace, make_text())
    await fleet.until_failed(document)
    await fleet.models_proxy.mend()
    await assert_ready_once(fleet, workspace, [document])
    assert (await job_of(fleet, document)).attempts == 1

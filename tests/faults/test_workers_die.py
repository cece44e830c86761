"""Workers that are killed, terminated or frozen: another one finishes their jobs."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from ragsvc.domain.documents import Stage
from tests.faults.support.end_state import assert_ready_once, job_of
from tests.faults.support.fleet import SOON_S
from tests.faults.support.gates import COMMIT
from tests.faults.support.texts import make_text
from tests.support.polling import until
from tests.support.servers.model_server import Pause

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ragsvc.domain.workspaces import Workspace
    from tests.faults.support.fleet import Fleet, FleetWorker

pytestmark = pytest.mark.xdist_group("faults")

STOP_POINTS = (*Stage, COMMIT)


async def kill_at(fleet: Fleet, workspace: Workspace, stop_points: Sequence[str]) -> list[tuple[int, int]]:
    """Kill a worker while it has one document at each of the stop points, and let another worker finish them.

    Returns the attempts and the generation of each job.
    """
    victim, standby = fleet.ingestion
    for worker in (victim, standby):
        await fleet.freeze(worker)
    documents = [await fleet.accept(workspace, make_text()) for _ in stop_points]
    async with AsyncExitStack() as stack:
        gates = [
            await stack.enter_async_context(fleet.gates.closed(document.id, stop_point))
            for document, stop_point in zip(documents, stop_points, strict=True)
        ]
        victim.signal(signal.SIGCONT)
        for gate in gates:
            await gate.reached()
        await victim.kill()
    died = time.monotonic()
    standby.signal(signal.SIGCONT)
    await assert_ready_once(fleet, workspace, documents)
    print(f"killed at {', '.join(stop_points)}: all ready {time.monotonic() - died:.1f} s later")  # noqa: T201
    settled = [await job_of(fleet, document) for document in documents]
    return [(job.attempts, job.generation) for job in settled]


def expected_counts(stop_point: str) -> tuple[int, int]:
    """Return the attempts and the generation of a job whose worker was killed at the stop point.

    A rescue does not count as an attempt, and a committed job is not run again.
    """
    return 1, 1 if stop_point == COMMIT else 2


async def test_a_worker_killed_at_every_stage(fleet: Fleet, workspace: Workspace) -> None:
    assert await kill_at(fleet, workspace, STOP_POINTS) == [expected_counts(stop_point) for stop_point in STOP_POINTS]


@pytest.mark.chaos
@pytest.mark.parametrize("documents", [1, 3, 5])
@pytest.mark.parametrize("stop_point", STOP_POINTS)
async def test_a_worker_killed_with_several_documents_at_one_stage(
    fleet: Fleet, workspace: Workspace, stop_point: str, documents: int
) -> None:
    assert await kill_at(fleet, workspace, [stop_point] * documents) == [expected_counts(stop_point)] * documents


async def pause_in_embedding(fleet: Fleet, workspace: Workspace) -> tuple[FleetWorker, Pause]:
    """Return a worker that is embedding a document of the workspace, and its paused call."""
    paused = Pause()
    fleet.models.embeddings.script(paused)
    document = await fleet.accept(workspace, make_text())
    async with asyncio.timeout(SOON_S):
        await paused.reached.wait()
    return await fleet.owner_of(document), paused


@pytest.mark.parametrize("times", [1, 2])
async def test_sigterm_during_a_job_hands_it_back(fleet: Fleet, workspace: Workspace, times: int) -> None:
    worker, _ = await pause_in_embedding(fleet, workspace)
    await worker.terminate(times=times)
    assert worker.process.exit_code == 0
    # The worker stopped within its grace period; after that, it would have exited without handing the job back.
    assert worker.has_logged("job_handed_back")
    assert worker.has_logged("worker_stopped")
    documents = list(fleet.documents_of(workspace))
    await assert_ready_once(fleet, workspace, documents)
    job = await job_of(fleet, documents[0])
    assert (job.attempts, job.rescues, job.error) == (1, 0, None)


async def test_a_worker_frozen_beyond_its_lease_loses_the_job(fleet: Fleet, workspace: Workspace) -> None:
    frozen, paused = await pause_in_embedding(fleet, workspace)
    await fleet.freeze(frozen)
    documents = list(fleet.documents_of(workspace))
    await assert_ready_once(fleet, workspace, documents)
    before = await job_of(fleet, documents[0])
    paused.resumed.set()
    frozen.signal(signal.SIGCONT)
    # The worker resumes in the middle of its work with the response that it was waiting for.
    await until(lambda: frozen.has_logged("job_lease_lost"), timeout_s=SOON_S, what="the loss of the lease")
    await assert_ready_once(fleet, workspace, documents)
    assert await job_of(fleet, documents[0]) == before
    assert frozen.is_running()

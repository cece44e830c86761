"""Workers that are killed, asked to stop, or frozen: another one takes over, and nothing shows it."""

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

PLACES = (*Stage, COMMIT)


async def kill_at(fleet: Fleet, workspace: Workspace, places: Sequence[str]) -> list[tuple[int, int]]:
    """Kill one worker while it has a document at each of the places; another one takes over.

    Return each job's attempts and generation.
    """
    victim, standby = fleet.ingestion
    for worker in (victim, standby):
        await fleet.freeze(worker)
    documents = [await fleet.accept(workspace, make_text()) for _ in places]
    async with AsyncExitStack() as stack:
        gates = [
            await stack.enter_async_context(fleet.gates.closed(document.id, place))
            for document, place in zip(documents, places, strict=True)
        ]
        victim.signal(signal.SIGCONT)
        for gate in gates:
            await gate.reached()
        await victim.kill()
    died = time.monotonic()
    standby.signal(signal.SIGCONT)
    await assert_ready_once(fleet, workspace, documents)
    print(f"killed at {', '.join(places)}: all ready {time.monotonic() - died:.1f} s later")  # noqa: T201
    settled = [await job_of(fleet, document) for document in documents]
    return [(job.attempts, job.generation) for job in settled]


def turns_of(place: str) -> tuple[int, int]:
    """Return a killed job's attempts and generation: a death is no attempt, and what is committed is not done again."""
    return 1, 1 if place == COMMIT else 2


async def test_kill_9_of_a_worker_at_every_stage(fleet: Fleet, workspace: Workspace) -> None:
    assert await kill_at(fleet, workspace, PLACES) == [turns_of(place) for place in PLACES]


@pytest.mark.chaos
@pytest.mark.parametrize("documents", [1, 3, 5])
@pytest.mark.parametrize("place", PLACES)
async def test_kill_9_of_a_worker_at_one_stage_again_and_again(
    fleet: Fleet, workspace: Workspace, place: str, documents: int
) -> None:
    assert await kill_at(fleet, workspace, [place] * documents) == [turns_of(place)] * documents


async def hold_in_body(fleet: Fleet, workspace: Workspace) -> tuple[FleetWorker, Pause]:
    """Return the worker that has a document of the workspace in the middle of its embedding, and the held call."""
    held = Pause()
    fleet.models.embeddings.script(held)
    document = await fleet.accept(workspace, make_text())
    async with asyncio.timeout(SOON_S):
        await held.reached.wait()
    return await fleet.owner_of(document), held


@pytest.mark.parametrize("times", [1, 2])
async def test_sigterm_mid_body_and_twice(fleet: Fleet, workspace: Workspace, times: int) -> None:
    worker, _ = await hold_in_body(fleet, workspace)
    took_s = await worker.terminate(times=times)
    assert worker.process.exit_code == 0
    assert took_s < fleet.settings.jobs.worker_grace_s
    documents = list(fleet.documents_of(workspace))
    await assert_ready_once(fleet, workspace, documents)
    job = await job_of(fleet, documents[0])
    assert (job.attempts, job.rescues, job.error) == (1, 0, None)


async def test_sigstop_past_the_lease_then_sigcont(fleet: Fleet, workspace: Workspace) -> None:
    frozen, held = await hold_in_body(fleet, workspace)
    await fleet.freeze(frozen)
    documents = list(fleet.documents_of(workspace))
    await assert_ready_once(fleet, workspace, documents)
    before = await job_of(fleet, documents[0])
    held.resumed.set()
    frozen.signal(signal.SIGCONT)
    # It wakes in the middle of its work, with an answer that it was waiting for.
    await until(lambda: frozen.said("job_lease_lost"), timeout_s=SOON_S, what="the loss of the lease")
    await assert_ready_once(fleet, workspace, documents)
    assert await job_of(fleet, documents[0]) == before
    assert frozen.is_running()

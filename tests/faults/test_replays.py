"""Concurrent and killed replays: each dead letter is replayed exactly once."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import pytest

from ragsvc.domain.ids import format_id
from ragsvc.domain.jobs import DeadLetterFilter, Queue
from ragsvc.errors.requests import ReplayRunning
from ragsvc.jobs import dead_letters
from ragsvc.jobs.dead_letters import ReplayResult
from tests.faults.support.end_state import assert_dead, assert_ready_once, job_of, list_dead, until_settled
from tests.faults.support.fleet import SOON_S, environment
from tests.faults.support.texts import make_text
from tests.support.polling import until
from tests.support.servers.model_server import Fail

if TYPE_CHECKING:
    from ragsvc.domain.documents import Document
    from ragsvc.domain.workspaces import Workspace
    from tests.faults.support.fleet import Fleet

pytestmark = pytest.mark.xdist_group("faults")

COUNT_REPLAYED = "SELECT sum(replay_count) FROM jobs WHERE workspace_id = $1"


async def bury(fleet: Fleet, workspace: Workspace, count: int) -> list[Document]:
    """Return documents that failed because the model refused their texts; by now, it accepts them."""
    fleet.models.embeddings.usual = Fail(422)
    documents = [await fleet.accept(workspace, make_text(sections=1)) for _ in range(count)]
    await until_settled(fleet, workspace)
    for document in documents:
        await assert_dead(fleet, document, code="embedding_rejected", attempts=1)
    fleet.models.embeddings.usual = None
    return documents


async def kill_a_replay(fleet: Fleet, workspace: Workspace, count: int) -> int:
    """Run `ragsvc dlq replay`, kill it after the first replayed job, and return how many it has replayed."""
    arguments = ("dlq", "replay", "ingestion", "--workspace", format_id("ws", workspace.id), "--rate", "5")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ragsvc", *arguments, env=environment(fleet.settings), stdout=asyncio.subprocess.DEVNULL
    )

    async def moved() -> int:
        async with fleet.resources.pool.acquire() as conn:
            replayed: int = await conn.fetchval(COUNT_REPLAYED, workspace.id)
            return replayed

    await until(moved, timeout_s=SOON_S, what="the first replay")
    process.kill()
    await process.wait()
    killed_at = await moved()
    assert 0 < killed_at < count
    return killed_at


@pytest.mark.parametrize("count", [10, pytest.param(200, marks=pytest.mark.chaos)])
async def test_two_concurrent_replays_after_a_killed_one(fleet: Fleet, workspace: Workspace, count: int) -> None:
    documents = await bury(fleet, workspace, count)
    moved = await kill_a_replay(fleet, workspace, count)
    refused = 0

    async def replay_rest() -> bool:
        """Start two replays and return whether one ran; Postgres must first release the killed replay's lock."""
        nonlocal moved, refused
        results = await asyncio.gather(
            *(
                dead_letters.replay(fleet.resources, Queue.INGESTION, DeadLetterFilter(workspace_id=workspace.id))
                for _ in range(2)
            ),
            return_exceptions=True,
        )
        assert all(isinstance(result, (ReplayResult, ReplayRunning)) for result in results), results
        done = [result for result in results if isinstance(result, ReplayResult)]
        moved += sum(result.replayed for result in done)
        refused += len(results) - len(done)
        return bool(done)

    await until(replay_rest, timeout_s=SOON_S, what="a replay")
    assert refused >= 1
    assert moved == count
    await assert_ready_once(fleet, workspace, documents, timeout_s=SOON_S + count)
    jobs = [await job_of(fleet, document) for document in documents]
    assert {(job.replay_count, job.attempts) for job in jobs} == {(1, 1)}
    assert not {format_id("job", job.id) for job in jobs} & {
        entry["job_id"] for entry in await list_dead(fleet, Queue.INGESTION)
    }

"""Runs queued deletions as a worker does, and kills them at a chosen call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ragsvc.db import deletion_receipts, jobs
from ragsvc.deletion.execution import delete
from ragsvc.domain.jobs import JobStatus, Queue
from ragsvc.jobs import lifecycle
from ragsvc.jobs.lease import Lease
from tests.support.documents.documents import reload_job

if TYPE_CHECKING:
    from ragsvc.domain.deletions import Deletion
    from ragsvc.domain.jobs import Job
    from ragsvc.resources import Resources


class Killed(BaseException):
    """The process was killed."""


class DyingClient:
    """The real store or Redis client; raises Killed before its `step`-th call, or after that call has returned."""

    def __init__(self, real: object, *, step: int, after: bool) -> None:
        self._real = real
        self._calls_left = step
        self._after = after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)

        async def call(*arguments: object, **options: object) -> object:
            self._calls_left -= 1
            if self._calls_left == 0 and not self._after:
                raise Killed
            result = await method(*arguments, **options)
            if self._calls_left == 0:
                raise Killed
            return result

        return call


async def deletion_job(resources: Resources, deletion: Deletion) -> Job:
    """Return the active job of a deletion."""
    async with resources.pool.acquire() as conn:
        job = await jobs.select_active_job(
            conn,
            deletion.workspace_id,
            queue=Queue.DELETION,
            subject_kind=deletion.subject_kind,
            subject_id=deletion.subject_id,
        )
    assert job is not None
    return job


async def claim_deletion_job(resources: Resources, deletion: Deletion) -> Job:
    """Claim the queued job of a deletion."""
    queued = await deletion_job(resources, deletion)
    job = await lifecycle.claim(resources.pool, queued.id, queue=queued.queue, owner="test", lease_s=60)
    assert job is not None
    return job


async def run_deletion(resources: Resources, deletion: Deletion) -> Deletion:
    """Claim the deletion's job, run it to completion and return the receipt."""
    job = await claim_deletion_job(resources, deletion)
    await delete(resources, Lease(resources.pool, job, resources.settings))
    assert (await reload_job(resources, job)).status is JobStatus.DONE
    return await load_deletion(resources, deletion)


async def run_deletion_until_killed(resources: Resources, deletion: Deletion) -> bool:
    """Claim the deletion's job and run it with a DyingClient in the resources; False if it completed first.

    A killed job is handed back to the queue.
    """
    job = await claim_deletion_job(resources, deletion)
    try:
        await delete(resources, Lease(resources.pool, job, resources.settings))
    except Killed:
        await lifecycle.hand_back(resources.pool, job)
        return True
    return False


async def load_deletion(resources: Resources, deletion: Deletion) -> Deletion:
    """Return the deletion's current row."""
    async with resources.pool.acquire() as conn:
        found = await deletion_receipts.select_deletion(conn, deletion.workspace_id, deletion.id)
    assert found is not None
    return found


def removed_counts(deletion: Deletion) -> dict[str, int]:
    """Return how many entries each store lost, omitting stores that lost none."""
    return {store.store: store.removed for store in deletion.stores if store.removed}

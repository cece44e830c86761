"""A deletion that was acknowledged reaches its end: it cannot be discarded, and can always be started again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from ragsvc.db import documents
from ragsvc.deletion import execution
from ragsvc.deletion.documents import DocumentRemover
from ragsvc.deletion.requests import (
    request_collection_deletion,
    request_document_deletion,
    request_workspace_deletion,
)
from ragsvc.domain.deletions import DeletionStatus
from ragsvc.domain.jobs import DeadLetterFilter, JobStatus, Queue
from ragsvc.errors.requests import DeletionNotDiscardable
from ragsvc.errors.work import ProviderRejected
from ragsvc.jobs import dead_letters, lifecycle, retry_policy
from ragsvc.jobs.lease import Lease
from tests.support.documents.builds import ready_document
from tests.support.documents.deletions import (
    Killed,
    claim_deletion_job,
    deletion_job,
    load_deletion,
    removed_counts,
    run_deletion,
    run_deletion_until_killed,
)
from tests.support.documents.documents import reload_job
from tests.support.documents.library import Library

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.domain.deletions import Deletion
    from ragsvc.domain.jobs import Job
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources


async def fail(resources: Resources, deletion: Deletion) -> Job:
    """Let the deletion fail, and return its dead letter."""
    job = await claim_deletion_job(resources, deletion)
    failure = retry_policy.classify(ProviderRejected("storage_rejected", "the bucket is locked"))
    dead = await lifecycle.fail(resources.pool, job, failure, settings=resources.settings)
    assert dead is not None
    assert dead.status is JobStatus.DEAD
    assert (await load_deletion(resources, deletion)).status is DeletionStatus.FAILED
    return dead


async def request(resources: Resources, workspace: Workspace, kind: str, subject_id: UUID) -> Deletion:
    match kind:
        case "document":
            return await request_document_deletion(resources, workspace.id, subject_id, purge_file=True)
        case "collection":
            return await request_collection_deletion(resources, workspace.id, subject_id)
        case _:
            return await request_workspace_deletion(resources, workspace.id)


@pytest.mark.parametrize("kind", ["document", "collection", "workspace"])
@pytest.mark.parametrize("is_discarded", [False, True], ids=["dead", "discarded"])
async def test_a_repeated_request_starts_a_failed_deletion_again(
    resources: Resources, workspace: Workspace, kind: str, *, is_discarded: bool
) -> None:
    collection_id = await Library(resources, workspace.id).add_collection("going")
    document = await ready_document(resources, workspace, collection_id=collection_id)
    subject_id = {"document": document.id, "collection": collection_id}.get(kind, workspace.id)
    deletion = await request(resources, workspace, kind, subject_id)
    dead = await fail(resources, deletion)
    if is_discarded:
        # As versions before 0.2 allowed.
        async with resources.pool.acquire() as conn:
            await conn.execute("UPDATE jobs SET status = 'discarded' WHERE id = $1", dead.id)
    again = await asyncio.gather(*(request(resources, workspace, kind, subject_id) for _ in range(3)))
    assert {one.id for one in again} == {deletion.id}
    assert {one.status for one in again} == {DeletionStatus.PENDING}
    assert (await run_deletion(resources, deletion)).status is DeletionStatus.COMPLETED
    if kind != "workspace":
        assert (await reload_job(resources, dead)).status in {JobStatus.SUPERSEDED, JobStatus.DISCARDED}


async def test_a_replayed_deletion_completes_although_its_subject_is_gone(
    resources: Resources, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = await ready_document(resources, workspace)
    deletion = await request_document_deletion(resources, workspace.id, document.id, purge_file=True)

    async def die(*_arguments: object, **_options: object) -> None:
        raise Killed

    with monkeypatch.context() as patches:
        # The worker dies between the removal of the row and the receipt.
        patches.setattr(execution, "verify_stores", die)
        assert await run_deletion_until_killed(resources, deletion)
    async with resources.pool.acquire() as conn:
        assert await documents.select_document(conn, workspace.id, document.id) is None
    dead = await fail(resources, deletion)
    result = await dead_letters.replay(resources, Queue.DELETION, DeadLetterFilter(ids=(dead.id,)))
    assert (result.replayed, result.superseded) == (1, 0)
    done = await run_deletion(resources, deletion)
    assert (done.status, removed_counts(done)["documents"]) == (DeletionStatus.COMPLETED, 1)


async def test_the_dead_letter_of_a_deletion_cannot_be_discarded(resources: Resources, workspace: Workspace) -> None:
    document = await ready_document(resources, workspace)
    dead = await fail(resources, await request_document_deletion(resources, workspace.id, document.id, purge_file=True))
    with pytest.raises(DeletionNotDiscardable):
        await dead_letters.discard(resources, Queue.DELETION, dead.id, None)
    result = await dead_letters.discard_matching(resources, Queue.DELETION, DeadLetterFilter())
    assert (result.matched, result.discarded, result.refused) == (1, 0, 1)
    assert (await reload_job(resources, dead)).status is JobStatus.DEAD


async def test_a_deletion_whose_workers_die_after_each_part_completes(
    resources: Resources, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More deaths than MAX_RESCUES, and each of them after progress."""
    collection_id = await Library(resources, workspace.id).add_collection("large")
    for _ in range(6):
        await ready_document(resources, workspace, collection_id=collection_id)
    monkeypatch.setattr(execution, "PAGE", 1)
    remove = DocumentRemover.remove
    deletion = await request_collection_deletion(resources, workspace.id, collection_id)
    for number in range(5):
        job = await _rescue(resources, deletion) if number else await claim_deletion_job(resources, deletion)
        assert job.rescues <= 1
        pages = 0

        async def die_after_one(remover: DocumentRemover, ids: Any) -> None:
            nonlocal pages
            if pages:
                raise Killed
            pages += 1
            await remove(remover, ids)

        with monkeypatch.context() as patches:
            patches.setattr(DocumentRemover, "remove", die_after_one)
            with pytest.raises(Killed):
                await execution.delete(resources, Lease(resources.pool, job, resources.settings))
    await _expire(resources, deletion)
    await lifecycle.rescue(resources.pool, await deletion_job(resources, deletion))
    done = await run_deletion(resources, deletion)
    assert (done.status, removed_counts(done)["documents"]) == (DeletionStatus.COMPLETED, 6)


async def _expire(resources: Resources, deletion: Deletion) -> None:
    async with resources.pool.acquire() as conn:
        await conn.execute(
            "UPDATE jobs SET lease_until = now() - interval '1 second' WHERE subject_id = $1 AND status = 'running'",
            deletion.subject_id,
        )


async def _rescue(resources: Resources, deletion: Deletion) -> Job:
    """Claim the job of a worker that died, as another worker does."""
    await _expire(resources, deletion)
    return await claim_deletion_job(resources, deletion)

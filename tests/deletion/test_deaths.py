"""A deletion that dies at any step counts, when it is done again, what it would have counted without."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ragsvc.db import jobs
from ragsvc.deletion.execution import delete
from ragsvc.deletion.files import delete_unused_file, sweep_released_files
from ragsvc.deletion.requests import request_document_deletion, request_workspace_deletion
from ragsvc.domain.jobs import Queue
from ragsvc.jobs import lifecycle
from ragsvc.jobs.lease import Lease
from ragsvc.uploads.documents import receive_content
from tests.deletion.test_execution import execute
from tests.support.builds import ready_document
from tests.support.documents import stream
from tests.support.workspaces import create_workspace

if TYPE_CHECKING:
    from ragsvc.domain.deletions import Deletion
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings


class Killed(BaseException):
    """The process is gone."""


class Mortal:
    """The real store or Redis; the process dies before its `step`-th request, or after it was answered."""

    def __init__(self, real: object, *, step: int, after: bool) -> None:
        self._real = real
        self._left = step
        self._after = after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)

        async def call(*arguments: object, **options: object) -> object:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise Killed
            answer = await method(*arguments, **options)
            if self._left == 0:
                raise Killed
            return answer

        return call


async def die(resources: Resources, deletion: Deletion) -> bool:
    """Begin the deletion with a mortal among the resources; False when it got through before that died."""
    async with resources.pool.acquire() as conn:
        queued = await jobs.select_active_job(
            conn,
            deletion.workspace_id,
            queue=Queue.DELETION,
            subject_kind=deletion.subject_kind,
            subject_id=deletion.subject_id,
        )
    assert queued is not None
    job = await lifecycle.claim(resources.pool, queued.id, owner="mortal", lease_s=60)
    assert job is not None
    try:
        await delete(resources, Lease(resources.pool, job, resources.settings))
    except Killed:
        await lifecycle.hand_back(resources.pool, job)
        return True
    return False


def removed(deletion: Deletion) -> dict[str, int]:
    return {store.store: store.removed for store in deletion.stores if store.removed}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_documents_deletion_dies_at_every_word_with_the_store(
    resources: Resources, workspace: Workspace, *, after: bool
) -> None:
    step, died = 0, True
    while died:
        step += 1
        document = await ready_document(resources, workspace)
        deletion = await request_document_deletion(resources, workspace.id, document.id, purge_file=True)
        mortal: Any = Mortal(resources.storage, step=step, after=after)
        died = await die(replace(resources, storage=mortal), deletion)
        if died:
            receipt = removed(await execute(resources, deletion))
            assert (receipt["objects"], receipt["files"], receipt["documents"]) == (1, 1, 1), step
    assert step > 2
    assert await resources.storage.count_objects(workspace.bucket) == 0


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_workspaces_deletion_dies_at_every_word_with_the_store(
    resources: Resources, settings: Settings, *, after: bool
) -> None:
    step, died = 0, True
    while died:
        step += 1
        doomed = await create_workspace(resources.pool, resources.storage, settings)
        kept = await ready_document(resources, doomed)
        await execute(resources, await request_document_deletion(resources, doomed.id, kept.id, purge_file=False))
        await ready_document(resources, doomed)
        deletion = await request_workspace_deletion(resources, doomed.id)
        mortal: Any = Mortal(resources.storage, step=step, after=after)
        died = await die(replace(resources, storage=mortal), deletion)
        if died:
            receipt = removed(await execute(resources, deletion))
            assert (receipt["objects"], receipt["documents"]) == (2, 1), step
    assert step > 5


async def test_the_file_that_waits_goes_with_its_document(resources: Resources, workspace: Workspace) -> None:
    document = await ready_document(resources, workspace)
    await receive_content(
        resources,
        workspace,
        document.id,
        stream(b"Kettles whistle."),
        filename="newer.txt",
        mime_type="text/plain",
        late_attributes=lambda: None,
    )
    deletion = await request_document_deletion(resources, workspace.id, document.id, purge_file=False)
    receipt = removed(await execute(resources, deletion))
    assert (receipt["objects"], receipt["files"], receipt["uploads"]) == (1, 1, 2)
    async with resources.pool.acquire() as conn:
        assert await conn.fetchval("SELECT filename FROM files") == "kettles.txt"
    assert await resources.storage.count_objects(workspace.bucket) == 1


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_files_removal_that_dies_is_finished_by_the_sweeper(
    resources: Resources, workspace: Workspace, step: int, *, after: bool
) -> None:
    document = await ready_document(resources, workspace)
    await execute(resources, await request_document_deletion(resources, workspace.id, document.id, purge_file=False))
    mortal: Any = Mortal(resources.storage, step=step, after=after)
    try:
        await delete_unused_file(replace(resources, storage=mortal), workspace, document.file_id)
    except Killed:
        assert await sweep_released_files(resources) == 1
    async with resources.pool.acquire() as conn:
        assert await conn.fetchval("SELECT count(*) FROM files") == 0
    assert await resources.storage.count_objects(workspace.bucket) == 0

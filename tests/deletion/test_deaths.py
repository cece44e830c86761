"""A deletion that is killed at any step and then repeated reports the same counts in its receipt."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ragsvc.deletion.files import delete_unused_file, sweep_released_files
from ragsvc.deletion.requests import request_document_deletion, request_workspace_deletion
from ragsvc.uploads.documents import receive_content
from tests.support.documents.builds import ready_document
from tests.support.documents.deletions import (
    DyingClient,
    Killed,
    removed_counts,
    run_deletion,
    run_deletion_until_killed,
)
from tests.support.documents.documents import stream
from tests.support.workspaces import create_workspace

if TYPE_CHECKING:
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_document_deletion_killed_at_any_store_call_can_be_repeated(
    resources: Resources, workspace: Workspace, *, after: bool
) -> None:
    step, was_killed = 0, True
    while was_killed:
        step += 1
        document = await ready_document(resources, workspace)
        deletion = await request_document_deletion(resources, workspace.id, document.id, purge_file=True)
        dying: Any = DyingClient(resources.storage, step=step, after=after)
        was_killed = await run_deletion_until_killed(replace(resources, storage=dying), deletion)
        if was_killed:
            receipt = removed_counts(await run_deletion(resources, deletion))
            assert (receipt["objects"], receipt["files"], receipt["documents"]) == (1, 1, 1), step
    assert step > 2
    assert await resources.storage.count_objects(workspace.bucket) == 0


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_workspace_deletion_killed_at_any_store_call_can_be_repeated(
    resources: Resources, settings: Settings, *, after: bool
) -> None:
    step, was_killed = 0, True
    while was_killed:
        step += 1
        doomed = await create_workspace(resources.pool, resources.storage, settings)
        first = await ready_document(resources, doomed)
        await run_deletion(resources, await request_document_deletion(resources, doomed.id, first.id, purge_file=False))
        await ready_document(resources, doomed)
        deletion = await request_workspace_deletion(resources, doomed.id)
        dying: Any = DyingClient(resources.storage, step=step, after=after)
        was_killed = await run_deletion_until_killed(replace(resources, storage=dying), deletion)
        if was_killed:
            receipt = removed_counts(await run_deletion(resources, deletion))
            assert (receipt["objects"], receipt["documents"]) == (2, 1), step
    assert step > 3


async def test_a_pending_file_is_deleted_with_its_document(resources: Resources, workspace: Workspace) -> None:
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
    receipt = removed_counts(await run_deletion(resources, deletion))
    assert (receipt["objects"], receipt["files"], receipt["uploads"]) == (1, 1, 2)
    async with resources.pool.acquire() as conn:
        assert await conn.fetchval("SELECT filename FROM files") == "kettles.txt"
    assert await resources.storage.count_objects(workspace.bucket) == 1


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_the_sweeper_finishes_an_interrupted_file_removal(
    resources: Resources, workspace: Workspace, step: int, *, after: bool
) -> None:
    document = await ready_document(resources, workspace)
    await run_deletion(
        resources, await request_document_deletion(resources, workspace.id, document.id, purge_file=False)
    )
    dying: Any = DyingClient(resources.storage, step=step, after=after)
    try:
        await delete_unused_file(replace(resources, storage=dying), workspace, document.file_id)
    except Killed:
        assert await sweep_released_files(resources) == 1
    async with resources.pool.acquire() as conn:
        assert await conn.fetchval("SELECT count(*) FROM files") == 0
    assert await resources.storage.count_objects(workspace.bucket) == 0

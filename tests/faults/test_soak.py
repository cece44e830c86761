"""A soak test: hundreds of documents while components fail at random; none may be lost or indexed twice.

SOAK_DOCUMENTS, SOAK_SECONDS, SOAK_WORKERS and SOAK_SEED configure it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from ragsvc.domain.ids import format_id
from ragsvc.domain.jobs import JobStatus, Queue
from tests.faults.support.chaos import Chaos
from tests.faults.support.end_state import assert_consistent, job_of, list_dead, select_documents, until_settled
from tests.faults.support.opening import open_fleet
from tests.faults.support.texts import make_text
from tests.support.servers.model_server import Slow

if TYPE_CHECKING:
    from ragsvc.domain.documents import Document
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.settings.settings import Settings
    from tests.faults.support.fleet import Fleet
    from tests.support.servers.servers import Servers

pytestmark = pytest.mark.chaos

DOCUMENTS = int(os.environ.get("SOAK_DOCUMENTS", "500"))
SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
WORKERS = int(os.environ.get("SOAK_WORKERS", "4"))
SEED = int(os.environ.get("SOAK_SEED", "7261"))
# Longest time until all jobs have ended after the last fault.
SETTLING_S = 300.0
# Every n-th document cannot be parsed, so that some documents fail.
POISON_EVERY = 25
POISON = b"%PDF-1.7\nno xref table"


async def accept_all(fleet: Fleet, workspace: Workspace) -> list[Document]:
    """Accept the documents, spread over the duration; every one must be accepted despite the faults."""
    documents = []
    started = time.monotonic()
    for number in range(DOCUMENTS):
        await asyncio.sleep(max(0.0, started + SECONDS * number / DOCUMENTS - time.monotonic()))
        if number % POISON_EVERY == POISON_EVERY - 1:
            documents.append(await fleet.accept(workspace, POISON, filename="broken.pdf"))
        else:
            documents.append(await fleet.accept(workspace, make_text(sections=2 + number % 9)))
    return documents


async def test_no_document_is_lost_or_doubled_while_components_fail_at_random(
    base_settings: Settings, template: str, servers: Servers, capsys: pytest.CaptureFixture[str]
) -> None:
    def report(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", flush=True)  # noqa: T201

    report(f"seed {SEED}: {DOCUMENTS} documents, {WORKERS} workers, {SECONDS:g} s")
    async with open_fleet(base_settings, template, servers, ingestion_concurrency=4, max_attempts=30) as fleet:
        await fleet.staff(ingestion=WORKERS, deletion=1)
        workspace = await fleet.make_workspace()
        # Slow, so that jobs are always running when a fault occurs.
        fleet.models.embeddings.usual = Slow(1.0)
        chaos = Chaos(fleet, SEED, WORKERS)
        async with asyncio.TaskGroup() as group:
            accepting = group.create_task(accept_all(fleet, workspace))
            group.create_task(chaos.run(SECONDS))
        last_fault = time.monotonic()
        await until_settled(fleet, workspace, timeout_s=SETTLING_S)
        settled_s = time.monotonic() - last_fault
        documents = accepting.result()
        # Each ready document is indexed once, there are no stray rows, and Redis has only the list of dead letters.
        await assert_consistent(fleet, workspace)
        statuses = await assert_nothing_lost(fleet, workspace, documents)
    slowest = f"{max(chaos.recoveries_s):.1f}" if chaos.recoveries_s else "-"
    report(
        f"soak: accepted {len(documents)}, {dict(statuses)}, none lost, none doubled; faults {chaos.counts};"
        f" {len(chaos.recoveries_s)} recoveries after a kill, the slowest {slowest} s; settled after {settled_s:.1f} s"
    )


async def assert_nothing_lost(fleet: Fleet, workspace: Workspace, documents: list[Document]) -> Counter[str]:
    """Assert that each document is ready, or failed and listed as a dead letter; return the counts by outcome."""
    rows = await select_documents(fleet, workspace)
    assert set(rows) == {document.id for document in documents}
    dead = {entry["document_id"]: entry["error"]["code"] for entry in await list_dead(fleet, Queue.INGESTION)}
    outcomes: Counter[str] = Counter()
    for document in documents:
        row, job = rows[document.id], await job_of(fleet, document)
        outcomes[row["status"] if row["status"] == "ready" else row["error"]["code"]] += 1
        if row["status"] == "ready":
            assert (job.status, row["version"]) == (JobStatus.DONE, 1)
        else:
            assert (row["status"], job.status) == ("failed", JobStatus.DEAD)
            assert dead[format_id("doc", document.id)] == row["error"]["code"]
    # Only the documents that cannot be parsed may fail.
    assert set(outcomes) <= {"ready", "corrupt"}, outcomes
    return outcomes

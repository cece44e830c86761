"""The metrics that a worker process serves on its own port."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp

from ragsvc.devstack.ports import free_ports
from ragsvc.domain.documents import DocumentStatus
from tests.support.documents.documents import accept, reload
from tests.support.polling import until
from tests.support.scrapes import Figures
from tests.support.servers.worker_processes import working

if TYPE_CHECKING:
    from ragsvc.domain.documents import Document
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources

STAGES = {"downloading", "parsing", "chunking", "embedding", "finalizing"}
PROGRAM = b"\x7fELF\x02\x01\x01" + bytes(200)


async def test_a_worker_exports_its_attempts_stages_and_calls(resources: Resources, workspace: Workspace) -> None:
    (port,) = free_ports(1)

    async def has_ended(document: Document) -> bool:
        return (await reload(resources, document)).status in {DocumentStatus.READY, DocumentStatus.FAILED}

    async with working(resources.settings.changed({"metrics_port": port})):
        good = await accept(resources, workspace)
        await until(lambda: has_ended(good), timeout_s=60, what="the document")
        # The same text again, whose vector is already cached.
        again = await accept(resources, workspace, filename="again.md")
        bad = await accept(resources, workspace, PROGRAM, filename="a.out", mime_type="application/octet-stream")
        for document in (again, bad):
            await until(lambda: has_ended(document), timeout_s=60, what="the document")  # noqa: B023 - awaited in the loop

        async def has_counted() -> Figures | None:
            async with aiohttp.request("GET", f"http://127.0.0.1:{port}/metrics") as response:
                figures = Figures(await response.text())
            return figures if figures.total("ragsvc_job_attempts_total") == 3 else None

        figures = await until(has_counted, what="three counted attempts")
    assert figures is not None
    attempts = {"queue": "ingestion"}
    assert figures.total("ragsvc_job_attempts_total", outcome="done", code="", **attempts) == 2
    assert figures.total("ragsvc_job_attempts_total", outcome="dead", code="unsupported_type", **attempts) == 1
    assert figures.total("ragsvc_job_start_latency_seconds_count", **attempts) == 3
    assert figures.total("ragsvc_jobs_running", **attempts) == 0
    assert figures.labels("ragsvc_ingestion_stage_duration_seconds_count", "stage") == STAGES
    assert figures.total("ragsvc_ingestion_stage_duration_seconds_count", stage="finalizing") == 2
    chunks = figures.total("ragsvc_embedding_chunks_total", source="model")
    assert chunks == figures.total("ragsvc_embedding_chunks_total", source="cache") > 0
    assert figures.total("ragsvc_embedding_batch_texts_count") == 1
    assert figures.total("ragsvc_model_requests_total", operation="embeddings", outcome="ok") == 1
    assert figures.total("ragsvc_model_tokens_total", operation="embeddings", type="input") > 0
    assert figures.total("ragsvc_s3_requests_total", operation="GetObject", outcome="ok") == 3

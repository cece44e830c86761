"""Traces follow a request through its job to the stores and models; without tracing, OpenTelemetry is not imported."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ragsvc.db import jobs
from ragsvc.domain.jobs import Queue, SubjectKind
from ragsvc.http.contract.ids import parse_id
from ragsvc.telemetry.traces import trace_id_of
from ragsvc.workers import ingestion, runner
from tests.http.support.documents import form
from tests.http.support.processes import serving
from tests.support.polling import until
from tests.support.spans import recording

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ragsvc.domain.jobs import Job
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings
    from tests.http.conftest import Tenant
    from tests.support.spans import Recorder

TEXT = b"# Kettles\n\nA kettle boils quicksilver at 357 degrees.\n"
UPLOAD = "0af7651916cd43dd8448eb211c80319c"
CHAT = "1af7651916cd43dd8448eb211c80319c"
CALLER_SPAN = "b7ad6b7169203331"


def traceparent(trace_id: str) -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-{CALLER_SPAN}-01"}


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with recording() as recorder:
        yield recorder


@pytest.fixture
async def worker(settings: Settings) -> AsyncIterator[dict[str, Any]]:
    """The context of an ingestion job, opened as in an arq worker."""
    ctx: dict[str, Any] = {"settings": settings, "stopping": asyncio.Event()}
    await ingestion.start(ctx)
    yield ctx
    await runner.stop(ctx)


async def ingested(tenant: Tenant, resources: Resources, worker: dict[str, Any], **headers: str) -> Job:
    """Upload a document and ingest it like a worker; return its job as it was queued."""
    response = await tenant.api.call("POST", "/v1/documents", data=form(TEXT, filename="kettles.md"), headers=headers)
    async with resources.pool.acquire() as conn:
        job = await jobs.select_active_job(
            conn,
            tenant.uuid,
            queue=Queue.INGESTION,
            subject_kind=SubjectKind.DOCUMENT,
            subject_id=parse_id("doc", response.json["id"]),
        )
    assert job is not None
    await ingestion.ingest_document(worker, str(job.id))
    shown = await tenant.api.get(f"/v1/documents/{response.json['id']}")
    assert shown.json["status"] == "ready", shown.raw
    return job


async def test_a_trace_follows_an_upload_to_ready(
    recorder: Recorder, tenant: Tenant, resources: Resources, worker: dict[str, Any]
) -> None:
    job = await ingested(tenant, resources, worker, **traceparent(UPLOAD))
    assert trace_id_of(job.trace_id) == UPLOAD
    trace = recorder.trace(UPLOAD)
    print(trace.draw())  # noqa: T201 - shown with -s
    root = trace.named("POST /v1/documents")
    assert root.parent is not None
    assert format(root.parent.span_id, "016x") == CALLER_SPAN
    assert root.attributes is not None
    assert root.attributes["http.response.status_code"] == 202
    work = ["POST /v1/documents", "process ingestion"]
    for name, path in (
        ("S3/UploadPart", ["POST /v1/documents"]),
        ("INSERT jobs", ["POST /v1/documents"]),
        ("send ingestion", ["POST /v1/documents"]),
        ("process ingestion", ["POST /v1/documents"]),
        ("S3/GetObject", [*work, "downloading"]),
        ("chunking", work),
        (f"embeddings {resources.settings.llm.embedding_model}", [*work, "embedding"]),
        ("finalizing", work),
    ):
        assert [*path, name] in trace.path(name), trace.draw()
    exported = "".join(str(span.to_json()) for span in trace.spans)
    assert "quicksilver" not in exported
    # Only requests start traces: the sweepers' calls to the stores do not.
    roots = {span.name for span in recorder.exporter.get_finished_spans() if span.parent is None}
    assert all(name.startswith(("POST ", "GET ")) for name in roots), roots


async def test_a_trace_follows_a_question_to_its_answer(
    recorder: Recorder, tenant: Tenant, resources: Resources, worker: dict[str, Any]
) -> None:
    await ingested(tenant, resources, worker)
    session = (await tenant.api.post("/v1/chat/sessions")).json
    path = f"/v1/chat/sessions/{session['id']}/messages"
    body = {"content": "When does quicksilver boil?"}
    response = await tenant.api.call("POST", path, json=body, headers=traceparent(CHAT))
    assert b"message.completed" in response.raw
    asked = "POST /v1/chat/sessions/{session_id}/messages"
    # The run ends shortly after the last event of the stream.
    await until(lambda: recorder.trace(CHAT).path("answer"), what="the run's span")
    trace = recorder.trace(CHAT)
    print(trace.draw())  # noqa: T201 - shown with -s
    chat = trace.named(f"chat {resources.settings.llm.chat_model}")
    embedding = f"embeddings {resources.settings.llm.embedding_model}"
    assert trace.path(chat.name) == [[asked, "answer", chat.name]]
    assert trace.path(embedding) == [[asked, "answer", "retrieve", embedding]]
    assert chat.attributes is not None
    assert chat.attributes["gen_ai.operation.name"] == "chat"
    assert chat.attributes["gen_ai.request.model"] == resources.settings.llm.chat_model
    assert int(str(chat.attributes["gen_ai.usage.output_tokens"])) > 0
    assert chat.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert "quicksilver" not in "".join(str(span.to_json()) for span in trace.spans)


async def test_without_tracing_a_job_carries_the_id_of_its_request(
    tenant: Tenant, resources: Resources, worker: dict[str, Any]
) -> None:
    job = await ingested(tenant, resources, worker, **{"X-Request-Id": "the-request", **traceparent(UPLOAD)})
    assert job.trace_id == "the-request"


def test_without_tracing_opentelemetry_is_not_imported() -> None:
    script = "import sys, ragsvc.cli.commands.serve, ragsvc.workers.runner; print(*sys.modules, sep='\\n')"
    listed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout  # noqa: S603
    assert [name for name in listed.splitlines() if name.startswith("opentelemetry")] == []


async def test_a_process_exports_its_spans_before_it_exits_and_logs_the_trace_id(settings: Settings) -> None:
    received: list[tuple[str, bytes]] = []

    async def receive(request: web.Request) -> web.Response:
        received.append((request.path, await request.read()))
        return web.Response(content_type="application/x-protobuf")

    collector = web.Application()
    collector.router.add_route("*", "/{path:.*}", receive)
    async with TestServer(collector) as server:
        environment = {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_SERVICE_NAME": "our-api",
            "OTEL_EXPORTER_OTLP_ENDPOINT": str(server.make_url("/")),
        }
        async with serving(settings, **environment) as api:
            path = f"{await api.started()}/v1/workspace"
            async with aiohttp.request("GET", path, headers=traceparent(UPLOAD)) as response:
                assert response.status == 401
            assert await api.stop() == 0
    bodies = [body for path, body in received if path == "/v1/traces"]
    assert any(b"our-api" in body and b"GET /v1/workspace" in body for body in bodies)
    assert any(bytes.fromhex(UPLOAD) in body for body in bodies)
    assert any(event.get("trace_id") == UPLOAD for event in api.events)

"""Scrapes are valid and count what was done, and unusual requests do not make them grow."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from pydantic import SecretStr

from ragsvc.db.queue_state import select_queue_depths
from ragsvc.devstack.ports import free_ports
from ragsvc.domain.jobs import Queue
from ragsvc.http.contract.ids import parse_id
from ragsvc.http.state import RESOURCES
from tests.http.conftest import Api, make_tenant, operator_of
from tests.http.support.documents import finish_document
from tests.http.support.processes import serving
from tests.support.polling import until
from tests.support.scrapes import Figures
from tests.support.servers.model_server import Fail

if TYPE_CHECKING:
    from ragsvc.settings.settings import Settings
    from tests.http.conftest import Client, ClientMaker, Tenant
    from tests.support.servers.model_server import ScriptedModels

CONTENT = b"Kettles boil water."
CLOSED_PORT = "127.0.0.1:9"
# aiohttp accepts these methods although no route has them.
METHODS = ("PROPFIND", "MKCOL", "PURGE", "LOCK")


async def scrape(client: Client, accept: str = "") -> Figures:
    response = await Api(client, None).get("/metrics", headers={"Accept": accept})
    assert response.status == 200, response.raw
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return Figures(response.raw.decode())


async def test_a_scrape_under_load_counts_every_request(client: Client, tenant: Tenant) -> None:
    before = await scrape(client)
    jobs_before = await count_jobs(client)
    load = [tenant.api.post("/v1/search", {"query": "kettles", "mode": "lexical"}) for _ in range(40)]
    load += [tenant.api.get("/v1/documents/doc_unknown") for _ in range(7)]
    uploads = [tenant.upload(CONTENT + b"!" * number, filename=f"{number}.txt") for number in range(5)]
    scrapes = [scrape(client) for _ in range(10)]
    await asyncio.gather(*load, *uploads, *scrapes)
    after = await scrape(client)

    def grown(name: str, **labels: str) -> float:
        return after.total(name, **labels) - before.total(name, **labels)

    assert grown("ragsvc_http_requests_total", route="/v1/search", method="POST", status="200") == 40
    assert grown("ragsvc_http_request_duration_seconds_count", route="/v1/search") == 40
    assert grown("ragsvc_retrieval_duration_seconds_count", mode="lexical") == 40
    assert grown("ragsvc_http_requests_total", route="/v1/documents/{document_id}", status="404") == 7
    assert grown("ragsvc_uploads_total", api="form", outcome="completed") == 5
    assert grown("ragsvc_upload_bytes_total", api="form") == 5 * len(CONTENT) + sum(range(5))
    assert grown("ragsvc_notifications_total", queue="ingestion", outcome="enqueued") == 5
    assert grown("ragsvc_s3_requests_total", operation="UploadPart", outcome="ok") == 5
    assert grown("ragsvc_db_acquire_wait_seconds_count") > 52
    assert after.total("ragsvc_http_requests_in_flight") == 1  # the scrape itself

    async def shows_the_jobs() -> bool:
        return (await scrape(client)).total("ragsvc_queue_depth", queue="ingestion") == jobs_before + 5

    # Postgres is queried at most every two seconds.
    await until(shows_the_jobs, what="the jobs in a scrape")
    assert after.total("ragsvc_queue_stats_up") == after.total("ragsvc_ready") == 1
    assert after.total("ragsvc_dependency_up") == 3


async def count_jobs(client: Client) -> int:
    async with client.app[RESOURCES].pool.acquire() as conn:
        depths = await select_queue_depths(conn)
    return sum(depth.queued for depth in depths if depth.queue is Queue.INGESTION)


async def test_openmetrics_is_returned_on_request(stranger: Api) -> None:
    response = await stranger.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert response.raw.endswith(b"# EOF\n")


async def test_unknown_paths_and_methods_add_no_series(client: Client, stranger: Api) -> None:
    await stranger.get("/first-invention")
    await stranger.call("PROPFIND", "/first-invention")
    before = await scrape(client)
    for number in range(50):
        await stranger.get(f"/invented/{number}")
        await stranger.call(METHODS[number % 4], f"/v1/invented/{number}")
        await stranger.get(f"/v1/documents/{number}")
    after = await scrape(client)
    name = "ragsvc_http_requests_total"
    assert after.total(name, route="unknown") - before.total(name, route="unknown") == 100
    invented = after.labels(name, "method") - before.labels(name, "method")
    assert invented <= {"GET", "POST", "PUT", "PATCH", "DELETE", "other"}
    # Every invented path would add at least one series. A few are new because of their method or route.
    assert len(after.samples) - len(before.samples) < 100


async def test_streams_and_runs_are_counted_by_outcome(
    make_client: ClientMaker, scripted_models: ScriptedModels
) -> None:
    client = await make_client(openai_base_url=scripted_models.url, chat_model="scripted")
    asker = await make_tenant(client, operator_of(client), "asker")
    document = await asker.upload()
    await finish_document(client.app[RESOURCES], asker.uuid, parse_id("doc", document["id"]))
    session = (await asker.api.post("/v1/chat/sessions")).json
    before = await scrape(client)
    scripted_models.chat_text = "Boil it [1]."
    response = await asker.api.post(f"/v1/chat/sessions/{session['id']}/messages", {"content": "kettles?"})
    assert b"message.completed" in response.raw
    # Asked in a new session, because a follow-up question is first condensed, which is another call to the model.
    session = (await asker.api.post("/v1/chat/sessions")).json
    scripted_models.chat.script(Fail(400, message="no"))
    await asker.api.post(f"/v1/chat/sessions/{session['id']}/messages", {"content": "kettles?", "stream": False})
    after = await scrape(client)

    def grown(name: str, **labels: str) -> float:
        return after.total(name, **labels) - before.total(name, **labels)

    assert grown("ragsvc_runs_total", outcome="completed", code="") == 1
    assert grown("ragsvc_runs_total", outcome="failed", code="chat_rejected") == 1
    assert grown("ragsvc_run_first_token_seconds_count") == grown("ragsvc_model_first_token_seconds_count") == 1
    assert grown("ragsvc_citations_total") == 1
    assert grown("ragsvc_model_requests_total", operation="chat", outcome="ok") == 1
    assert grown("ragsvc_model_requests_total", operation="chat", outcome="chat_rejected") == 1
    assert grown("ragsvc_model_tokens_total", operation="chat", type="input") == 7
    assert grown("ragsvc_model_tokens_total", operation="chat", type="output") == 3
    assert grown("ragsvc_streams_total", end="completed") == 1
    assert after.total("ragsvc_streams_open") == after.total("ragsvc_runs_active") == 0
    # The duration of a stream depends on its reader, so it is not a latency.
    messages = "/v1/chat/sessions/{session_id}/messages"
    assert grown("ragsvc_http_requests_total", route=messages) == 2
    assert grown("ragsvc_http_request_duration_seconds_count", route=messages) == 1


@pytest.mark.parametrize(
    ("change", "unavailable"),
    [
        ({"redis_url": SecretStr(f"redis://{CLOSED_PORT}/0")}, "redis"),
        ({"s3_endpoint_url": f"http://{CLOSED_PORT}"}, "s3"),
    ],
)
async def test_a_scrape_succeeds_without_redis_or_s3(
    make_client: ClientMaker, change: dict[str, Any], unavailable: str
) -> None:
    figures = await scrape(await make_client(**change))
    assert figures.total("ragsvc_dependency_up", dependency=unavailable) == 0
    assert figures.total("ragsvc_ready") == figures.total("ragsvc_queue_stats_up") == 1


async def test_metrics_are_served_only_on_metrics_port_if_it_is_set(settings: Settings) -> None:
    (port,) = free_ports(1)
    async with serving(settings, METRICS_PORT=str(port)) as api, aiohttp.ClientSession() as session:
        url = await api.started()
        async with session.get(f"{url}/metrics") as response:
            assert response.status == 404
        async with session.get(f"http://127.0.0.1:{port}/metrics") as response:
            figures = Figures(await response.text())
        async with session.get(f"http://127.0.0.1:{port}/v1/workspace") as response:
            assert response.status == 404
        assert figures.total("ragsvc_http_requests_total", route="unknown", status="404") == 1
        assert figures.total("ragsvc_ready") == figures.total("ragsvc_build_info") == 1
        assert await api.stop() == 0

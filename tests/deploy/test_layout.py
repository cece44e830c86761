"""The layout of deploy/Procfile works, and restarts under load lose no request and no job."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import aiohttp
import asyncpg
import pytest

from ragsvc.devstack.ports import LOOPBACK
from tests.deploy.files import run_tool
from tests.deploy.layout import APIS, WORKERS
from tests.deploy.load import Load
from tests.support.scrapes import Figures

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.deploy.client import Client
    from tests.deploy.layout import Layout

    Reporter = Callable[[str], None]

# One xdist worker runs all these tests, because they share the layout.
pytestmark = pytest.mark.xdist_group("layout")


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Reporter:
    """Print a figure even if the tests pass."""

    def show(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end="")  # noqa: T201

    return show


async def test_the_layout_ingests_answers_and_deletes(client: Client) -> None:
    document = await client.upload("# Kettles\n\nDescale the kettle every three months with citric acid.")
    await client.until_document(document)
    (hit,) = await client.search("descale the kettle")
    assert hit["document_id"] == document
    end = await client.ask("How often is the kettle descaled?")
    assert end["event"] == "message.completed"
    receipt = await client.until_deleted(await client.delete(document))
    assert {store["remaining"] for store in receipt["stores"]} == {0}
    assert await client.search("descale the kettle") == []


async def test_every_process_exports_its_metrics_on_a_port_without_clients(layout: Layout) -> None:
    async with aiohttp.ClientSession() as session:
        for name, port in layout.metrics_ports.items():
            async with session.get(f"http://{LOOPBACK}:{port}/metrics") as response:
                figures = Figures(await response.text())
            assert figures.total("ragsvc_build_info") == 1, name
        async with session.get(f"{layout.url}/metrics") as response:
            assert response.status == 404


async def test_a_workers_probe_succeeds(layout: Layout) -> None:
    for name in WORKERS:
        env = {"WORKER_ALIVE_FILE": str(layout.alive_file(name))}
        assert "polled its queue" in await asyncio.to_thread(run_tool, "ragsvc", "worker-alive", env=env)


@pytest.mark.parametrize("rounds", [1, pytest.param(5, marks=pytest.mark.chaos)])
async def test_a_rolling_restart_loses_no_request_and_no_job(
    layout: Layout, client: Client, report: Reporter, rounds: int
) -> None:
    """Restart each process in turn under load, and compare the outcome with the requests."""
    began = time.monotonic()
    restarts: dict[str, list[tuple[float, float]]] = {}
    async with Load(client).running():
        for name in (*APIS, *WORKERS) * rounds:
            restarts.setdefault(name, []).append(await layout.restart(name))
    tally = client.tally
    assert tally.failures == []
    report(f"rolling restart: each process {rounds} times in {time.monotonic() - began:.0f} s")
    for name, seconds in restarts.items():
        report(f"  {name} stops in at most {max(s for s, _ in seconds):.2f} s, is back after {seconds[-1][1]:.2f} s")
    report(f"  {tally.requests} requests, {tally.retries} retried, {tally.resumed} streams resumed, 0 failed")
    remaining = tally.documents - set(tally.deleted)
    await asyncio.gather(*map(client.until_document, remaining), *map(client.until_deleted, tally.deleted.values()))
    jobs = await count_jobs(layout)
    report(f"  {tally.answers} answers, {len(remaining)} documents ready, {len(tally.deleted)} deleted; jobs: {jobs}")
    # No job is dead or left over. A document's jobs are deleted with it.
    assert set(jobs) == {"done"}
    assert jobs["done"] >= len(remaining) + len(tally.deleted)
    assert tally.answers > 0
    assert tally.deleted


async def count_jobs(layout: Layout) -> dict[str, int]:
    """Return the number of jobs by status."""
    connection = await asyncpg.connect(layout.settings.stores.database_url.get_secret_value())
    try:
        rows = await connection.fetch("SELECT status, count(*) FROM jobs GROUP BY status ORDER BY status")
    finally:
        await connection.close()
    return {row["status"]: row["count"] for row in rows}

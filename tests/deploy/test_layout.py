"""The layout of deploy/Procfile does the main job, and is restarted under load without losing a request or a job."""

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

# One process runs the layout; where tests are shared out, they share it.
pytestmark = pytest.mark.xdist_group("layout")


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Reporter:
    """Tell a figure to whoever runs the tests, also when they pass."""

    def tell(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end="")  # noqa: T201

    return tell


async def test_the_layout_does_the_main_job(client: Client) -> None:
    document = await client.upload("# Kettles\n\nDescale the kettle every three months with citric acid.")
    await client.until_document(document)
    (hit,) = await client.search("descale the kettle")
    assert hit["document_id"] == document
    end = await client.ask("How often is the kettle descaled?")
    assert end["event"] == "message.completed"
    receipt = await client.until_deleted(await client.delete(document))
    assert {store["remaining"] for store in receipt["stores"]} == {0}
    assert await client.search("descale the kettle") == []


async def test_every_process_tells_its_metrics_where_no_client_reads_them(layout: Layout) -> None:
    async with aiohttp.ClientSession() as session:
        for name, port in layout.metrics_ports.items():
            async with session.get(f"http://{LOOPBACK}:{port}/metrics") as answer:
                figures = Figures(await answer.text())
            assert figures.total("ragsvc_build_info") == 1, name
        async with session.get(f"{layout.url}/metrics") as answer:
            assert answer.status == 404


async def test_a_workers_probe_sees_it_alive(layout: Layout) -> None:
    for name in WORKERS:
        env = {"WORKER_ALIVE_FILE": str(layout.alive_file(name))}
        assert "looked at its queue" in await asyncio.to_thread(run_tool, "ragsvc", "worker-alive", env=env)


@pytest.mark.parametrize("rounds", [1, pytest.param(5, marks=pytest.mark.chaos)])
async def test_a_rolling_restart_loses_no_request_and_no_job(
    layout: Layout, client: Client, report: Reporter, rounds: int
) -> None:
    """Each process is restarted in turn, under load, and what came of it is held against what was asked for."""
    began = time.monotonic()
    restarts: dict[str, list[tuple[float, float]]] = {}
    async with Load(client).going_on():
        for name in (*APIS, *WORKERS) * rounds:
            restarts.setdefault(name, []).append(await layout.restart(name))
    tally = client.tally
    assert tally.failures == []
    report(f"rolling restart: each process {rounds} times in {time.monotonic() - began:.0f} s")
    for name, seconds in restarts.items():
        report(f"  {name} stops in at most {max(s for s, _ in seconds):.2f} s, is back after {seconds[-1][1]:.2f} s")
    report(f"  {tally.requests} requests, {tally.retries} tried again, {tally.resumed} streams resumed, 0 failed")
    kept = tally.documents - set(tally.deleted)
    await asyncio.gather(*map(client.until_document, kept), *map(client.until_deleted, tally.deleted.values()))
    jobs = await count_jobs(layout)
    report(f"  {tally.answers} answers, {len(kept)} documents ready, {len(tally.deleted)} deleted; jobs: {jobs}")
    # None is dead, none is left; a document's jobs go with it.
    assert set(jobs) == {"done"}
    assert jobs["done"] >= len(kept) + len(tally.deleted)
    assert tally.answers > 0
    assert tally.deleted


async def count_jobs(layout: Layout) -> dict[str, int]:
    """Return how many jobs ended how."""
    connection = await asyncpg.connect(layout.settings.stores.database_url.get_secret_value())
    try:
        rows = await connection.fetch("SELECT status, count(*) FROM jobs GROUP BY status ORDER BY status")
    finally:
        await connection.close()
    return {row["status"]: row["count"] for row in rows}

"""Row-level security has a negligible cost per request: `make bench`, on an idle machine.

Requests with it alternate with the same requests without it. Without it, connections see all rows, and keys are looked
up by a plain query. One run uses a single workspace. Another uses many, so that each pooled connection was last used
for a different workspace.
`ISOLATION_BENCH_ROUNDS` is the number of timed rounds; use fewer to try the benchmark itself.
"""

from __future__ import annotations

import os
import statistics
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING

import pytest
from aiohttp.test_utils import TestClient

from ragsvc.db import api_keys
from ragsvc.http.app import create_app
from ragsvc.http.contract.ids import parse_id
from ragsvc.http.state import RESOURCES
from tests.bench.table import ratio_at_most
from tests.http.conftest import Api, Server, make_tenant, operator_of
from tests.http.support.documents import finish_document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.settings.settings import Settings
    from tests.bench.table import BenchTable
    from tests.http.conftest import Client

ROUNDS = int(os.environ.get("ISOLATION_BENCH_ROUNDS", "600"))
WORKSPACES = 10
DOCUMENTS = 5
HIGHEST_RATIO = 1.05
SELECT_KEY_OWNER_DIRECTLY = """
SELECT k.*, k.last_used_at IS NULL OR k.last_used_at < now() - interval '1 minute' AS is_use_due, $2::boolean AS enters,
    w.name AS workspace_name, w.bucket, w.key_prefix AS object_prefix, w.quota_bytes,
    w.created_at AS workspace_created_at
FROM api_keys k JOIN workspaces w ON w.id = k.workspace_id
WHERE k.key_hash = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
  AND w.deletion_id IS NULL
"""


@dataclass(frozen=True, slots=True)
class Target:
    """A workspace's key and one of its documents."""

    key: str
    document: str


@dataclass(frozen=True, slots=True)
class Site:
    """Two applications on one database, and workspaces in it."""

    walled: Client
    open: Client
    targets: list[Target]


@pytest.fixture
async def site(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """The application with and without row-level security."""
    quick = settings.changed({"rate_limit_rps": 1e6, "rate_limit_burst": 1_000_000, "database_pool_size": 2})
    async with AsyncExitStack() as stack:
        walled = await stack.enter_async_context(TestClient(Server(create_app(quick))))
        targets = [await make_target(walled, number) for number in range(WORKSPACES)]
        monkeypatch.setattr("ragsvc.db.connections.pool.SELECT_CAN_ISOLATE", "SELECT false")
        unwalled = await stack.enter_async_context(TestClient(Server(create_app(quick))))
        for target in targets:
            assert await get_document(unwalled, target) > 0
        assert await walled.app[RESOURCES].pool.can_isolate()
        assert not await unwalled.app[RESOURCES].pool.can_isolate()
        yield Site(walled, unwalled, targets)


async def make_target(client: Client, number: int) -> Target:
    """Create a workspace with ready documents."""
    tenant = await make_tenant(client, operator_of(client), f"workspace {number}")
    for count in range(DOCUMENTS):
        document = await tenant.upload(f"Kettle {count} boils.".encode())
        await finish_document(client.app[RESOURCES], tenant.uuid, parse_id("doc", document["id"]))
    assert tenant.api.key is not None
    return Target(tenant.api.key, document["id"])


async def get_document(client: Client, target: Target) -> float:
    """Return the time to get a document, in milliseconds."""
    begun = time.perf_counter()
    answer = await Api(client, target.key).get(f"/v1/documents/{target.document}")
    assert answer.status == 200, answer.raw
    return 1000 * (time.perf_counter() - begun)


async def search(client: Client, target: Target) -> float:
    """Return the time of a search, in milliseconds."""
    begun = time.perf_counter()
    answer = await Api(client, target.key).post("/v1/search", {"query": "kettles boil water", "mode": "lexical"})
    assert answer.status == 200, answer.raw
    return 1000 * (time.perf_counter() - begun)


@pytest.mark.bench
async def test_row_level_security_has_negligible_cost(
    site: Site, bench_table: BenchTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookup = api_keys.SELECT_KEY_OWNER
    for name, request in (("document GET", get_document), ("search", search)):
        for whose, targets in (("one workspace", site.targets[:1]), (f"{WORKSPACES} in turn", site.targets)):
            walled, unwalled = [], []
            for target in islice(cycle(targets), ROUNDS):
                monkeypatch.setattr(api_keys, "SELECT_KEY_OWNER", lookup)
                walled.append(await request(site.walled, target))
                monkeypatch.setattr(api_keys, "SELECT_KEY_OWNER", SELECT_KEY_OWNER_DIRECTLY)
                unwalled.append(await request(site.open, target))
            bench_table.add(
                f"{name}, {whose}, median",
                statistics.median(walled),
                "ms",
                peer=("without", statistics.median(unwalled)),
                goal=ratio_at_most(HIGHEST_RATIO),
            )
    bench_table.check()

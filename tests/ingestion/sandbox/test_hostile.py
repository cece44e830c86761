"""Whatever a stranger uploads gets its code soon, in bounded memory, and the document behind it becomes ready."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from ragsvc.domain.documents import DocumentStatus
from tests.ingestion.sandbox.hostile_files import HOSTILE
from tests.support.servers.databases import cloned
from tests.support.servers.worker_trees import open_worker_tree

if TYPE_CHECKING:
    from ragsvc.domain.documents import Document
    from ragsvc.settings.settings import Settings

MIB = 1024 * 1024
MEMORY_BYTES = 320 * MIB
PARSE_TIMEOUT_S = 8.0
LIMITS: dict[str, Any] = {
    "ingestion_concurrency": 1,
    "parse_timeout_s": PARSE_TIMEOUT_S,
    "parse_memory_bytes": MEMORY_BYTES,
    "max_pages": 300,
    "max_cells": 100_000,
    "max_expanded_bytes": 48 * MIB,
}
# A time-out, two fresh processes, and a machine that does ten other things.
SOON_S = 60.0
TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a hostile document and of the healthy one behind it; how long both took together."""

    hostile: Document
    healthy: Document
    seconds: float


@dataclass(frozen=True, slots=True)
class Run:
    """One worker's way through all of them, one after the other."""

    outcomes: dict[str, Outcome]
    peak_child_bytes: int


@pytest.fixture(scope="module")
async def run(base_settings: Settings, template: str) -> Run:
    """Every hostile file, each with a healthy one behind it, through one worker that takes one at a time."""
    own = uuid.uuid4().hex[:12]
    async with cloned(base_settings.stores.database_url.get_secret_value(), template=template) as url:
        settings = base_settings.changed(
            {"database_url": SecretStr(url), "queue_prefix": f"test-{own}", "s3_bucket_prefix": f"test-{own}"}
        )
        async with open_worker_tree(settings, **LIMITS) as tree:
            contents = []
            for name, hostile in HOSTILE.items():
                contents += [(hostile.filename, hostile.make()), ("healthy.md", f"# Healthy\n\n{name}".encode())]
            documents = await tree.ingest(contents, timeout_s=TIMEOUT_S)
    pairs = dict(zip(HOSTILE, zip(documents[::2], documents[1::2], strict=True), strict=True))
    outcomes: dict[str, Outcome] = {}
    before = documents[0].created_at
    for name, (harmful, healthy) in pairs.items():
        begun = max(before, harmful.created_at)
        outcomes[name] = Outcome(harmful, healthy, (healthy.updated_at - begun).total_seconds())
        before = healthy.updated_at
    return Run(outcomes, tree.peak_child_bytes)


@pytest.mark.xdist_group("hostile")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_gets_its_code_and_its_neighbour_is_ready(run: Run, name: str) -> None:
    outcome = run.outcomes[name]
    document = outcome.hostile
    said = document.error.code if document.error else document.status
    assert said in HOSTILE[name].codes, document.error
    assert outcome.healthy.status is DocumentStatus.READY


@pytest.mark.chaos
@pytest.mark.xdist_group("hostile")
def test_no_hostile_file_delays_its_neighbour_for_long(run: Run) -> None:
    assert max(outcome.seconds for outcome in run.outcomes.values()) < SOON_S


@pytest.mark.xdist_group("hostile")
def test_no_hostile_file_takes_more_memory_than_a_parser_may(run: Run) -> None:
    assert 0 < run.peak_child_bytes < MEMORY_BYTES

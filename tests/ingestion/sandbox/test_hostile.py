"""Hostile uploads fail with the expected code within time and memory limits; the next document becomes ready."""

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
PARSE_TIMEOUT_S = 20.0
LIMITS: dict[str, Any] = {
    "ingestion_concurrency": 1,
    "parse_timeout_s": PARSE_TIMEOUT_S,
    "parse_memory_bytes": MEMORY_BYTES,
    "max_pages": 300,
    "max_cells": 100_000,
    "max_expanded_bytes": 48 * MIB,
}
# Enough for a parse timeout and the start of two processes on a busy machine.
SOON_S = 60.0
TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcomes of a hostile document and the healthy one after it, and how long both took together."""

    hostile: Document
    healthy: Document
    seconds: float


@dataclass(frozen=True, slots=True)
class Run:
    """The outcomes of all hostile files, ingested one after another by one worker."""

    outcomes: dict[str, Outcome]
    peak_child_bytes: int


@pytest.fixture(scope="module")
async def run(base_settings: Settings, template: str) -> Run:
    """All hostile files, each followed by a healthy one, ingested by one worker with a concurrency of one."""
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
def test_a_hostile_file_gets_its_code_and_the_next_document_becomes_ready(run: Run, name: str) -> None:
    outcome = run.outcomes[name]
    document = outcome.hostile
    result = document.error.code if document.error else document.status
    assert result in HOSTILE[name].codes, document.error
    assert outcome.healthy.status is DocumentStatus.READY


@pytest.mark.chaos
@pytest.mark.xdist_group("hostile")
def test_no_hostile_file_delays_the_next_document_for_long(run: Run) -> None:
    assert max(outcome.seconds for outcome in run.outcomes.values()) < SOON_S


@pytest.mark.xdist_group("hostile")
def test_no_hostile_file_exceeds_the_memory_limit(run: Run) -> None:
    assert 0 < run.peak_child_bytes < MEMORY_BYTES

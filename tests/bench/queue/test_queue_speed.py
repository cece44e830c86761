"""The queue is as fast as it is said to be: `make bench`, on a machine that does nothing else."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from tests.bench.queue import systems
from tests.bench.queue.measure import CONCURRENCY, Figures, measure

if TYPE_CHECKING:
    from ragsvc.settings import Settings

COMPARED = {"ragsvc": systems.ragsvc, "arq as it comes": systems.arq} | (
    {"BullMQ": systems.bullmq} if shutil.which("node") and shutil.which("npm") else {}
)


def to_environment(settings: Settings) -> dict[str, str]:
    """Return the environment that makes these settings."""
    given = {name.upper(): value for name, value in settings if value is not None}
    return {
        **os.environ,
        **{
            name: value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            for name, value in given.items()
        },
    }


@pytest.mark.bench
async def test_jobs_start_and_finish_as_fast_as_is_said(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    settings = settings.model_copy(update={"ingestion_concurrency": CONCURRENCY})
    figures: dict[str, Figures] = {}
    for name, run in COMPARED.items():
        async with run(settings, to_environment(settings)) as system:
            figures[name] = await measure(system)
    with capsys.disabled():
        for name, one in figures.items():
            print(f"\n{name:<16}", *(f"{figure}={value:.4g}" for figure, value in asdict(one).items()), end="")  # noqa: T201
    ours, theirs = figures["ragsvc"], figures["arq as it comes"]
    assert ours.start_p50_ms <= 10
    assert ours.start_p50_ms * 20 <= theirs.start_p50_ms
    assert ours.waiting_per_s >= 85
    assert ours.empty_per_s >= 300
    assert ours.idle_cpu < 0.01

"""Measures a queue: the start latency when idle, the throughput of jobs that wait and of empty jobs, the idle CPU."""

from __future__ import annotations

import asyncio
import random
import statistics
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import psutil

from tests.support.polling import until

if TYPE_CHECKING:
    from tests.bench.queue.systems import System

CONCURRENCY = 10
LATENCY_JOBS = 60
WAITING_JOBS = 400
WAIT_S = 0.1
EMPTY_JOBS = 2000
IDLE_S = 15.0
# Uneven intervals, so that jobs arrive at any point between two polls.
GAP_S = (0.05, 0.55)


@dataclass(frozen=True, slots=True)
class Figures:
    """A queue's figures; latencies in milliseconds, throughput in jobs per second, CPU as a share of one core."""

    start_p50_ms: float
    start_p95_ms: float
    waiting_per_s: float
    empty_per_s: float
    idle_cpu: float


async def measure(system: System) -> Figures:
    """Measure one queue with one worker process that runs CONCURRENCY jobs at once."""
    await _run(system, 0, count=CONCURRENCY, wait_s=0)
    latencies_ms = sorted([await _start_ms(system, 100 + n) for n in range(LATENCY_JOBS)])
    waiting = await _throughput(system, 10_000, count=WAITING_JOBS, wait_s=WAIT_S)
    empty = await _throughput(system, 20_000, count=EMPTY_JOBS, wait_s=0)
    return Figures(
        start_p50_ms=statistics.median(latencies_ms),
        start_p95_ms=latencies_ms[int(0.95 * len(latencies_ms))],
        waiting_per_s=waiting,
        empty_per_s=empty,
        idle_cpu=await _idle_cpu(system.worker_pid),
    )


async def _start_ms(system: System, number: int) -> float:
    await asyncio.sleep(random.uniform(*GAP_S))  # noqa: S311
    await _run(system, number, count=1, wait_s=0)
    return (system.journal.read("start")[number] - system.journal.read("enqueue")[number]) * 1000


async def _throughput(system: System, first: int, *, count: int, wait_s: float) -> float:
    """Return the jobs per second from the first start to the last end; the worker is paused until all are queued."""
    worker = psutil.Process(system.worker_pid)
    worker.suspend()
    try:
        await system.enqueue(first, count=count, wait_s=wait_s)
        await until(lambda: len(system.journal.read("enqueue")) >= count, timeout_s=60)
    finally:
        worker.resume()
    await _until_ended(system, first, count=count)
    started, ended = system.journal.read("start"), system.journal.read("end")
    numbers = range(first, first + count)
    return count / (max(ended[n] for n in numbers) - min(started[n] for n in numbers))


async def _run(system: System, first: int, *, count: int, wait_s: float) -> None:
    await system.enqueue(first, count=count, wait_s=wait_s)
    await _until_ended(system, first, count=count)


async def _until_ended(system: System, first: int, *, count: int) -> None:
    wanted = set(range(first, first + count))
    await until(partial(_have_ended, system, wanted), timeout_s=120, what=f"{count} jobs")


def _have_ended(system: System, wanted: set[int]) -> bool:
    return wanted <= system.journal.read("end").keys()


async def _idle_cpu(pid: int) -> float:
    worker = psutil.Process(pid)
    before = worker.cpu_times()
    await asyncio.sleep(IDLE_S)
    after = worker.cpu_times()
    return (after.user + after.system - before.user - before.system) / IDLE_S

"""Canaries: what arq 0.28 does that this service relies on or covers; an upgrade that changes it fails here."""

from __future__ import annotations

import asyncio
import inspect
import pickle
from typing import TYPE_CHECKING, Any

import arq
import pytest
from arq.constants import default_queue_name, health_check_key_suffix, in_progress_key_prefix, job_key_prefix
from arq.jobs import serialize_job
from arq.worker import Worker, func
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ragsvc import workers
from ragsvc.domain.jobs import Queue
from ragsvc.queue.connection import (
    BODY_TTL_MS,
    deserialize,
    open_worker_redis,
    queue_name,
    redis_settings,
    serialize,
)
from ragsvc.workers.wake import WakeWorker
from tests.support.environment import variables_of

if TYPE_CHECKING:
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings

DAY_MS = 24 * 3600 * 1000


class Bench:
    """A queue of the test's own with arq's worker as it comes, which ends when the queue is empty."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.redis = resources.redis
        self.name = f"{resources.settings.stores.queue_prefix}:canary"
        self.calls: list[str] = []

    async def notify(self, job_id: str, *, function: str = "note", queue: str | None = None, **options: Any) -> bool:
        """Enqueue a job and tell whether arq took it."""
        job = await self.redis.enqueue_job(
            function, job_id, _job_id=f"{self.name}:{job_id}", _queue_name=queue or self.name, **options
        )
        return job is not None

    async def work(self, body: Any, **options: Any) -> Worker:
        """Run the worker until the queue is empty."""

        async def hook(_ctx: dict[Any, Any]) -> None:
            self.calls.append("hook")

        worker = Worker(
            functions=[func(body, name="note")],
            queue_name=self.name,
            redis_settings=redis_settings(self.resources.settings),
            job_serializer=serialize,
            job_deserializer=deserialize,
            burst=True,
            poll_delay=0.01,
            handle_signals=False,
            on_job_start=hook,  # type: ignore[arg-type]  # arq names another protocol than it calls
            after_job_end=hook,  # type: ignore[arg-type]  # arq names another protocol than it calls
            **options,
        )
        try:
            await worker.main()
        finally:
            await worker.close()
        return worker

    async def note(self, _ctx: dict[Any, Any], job_id: str) -> None:
        """Note that the job ran."""
        self.calls.append(job_id)


@pytest.fixture
def bench(resources: Resources) -> Bench:
    """A fresh queue."""
    return Bench(resources)


def test_the_pinned_arq_is_the_one_that_was_studied() -> None:
    assert arq.version.VERSION == "0.28.0"


@pytest.mark.parametrize(
    "name", ["_poll_iteration", "_release_sem_dec_counter_on_complete", "handle_sig", "close", "main", "start_jobs"]
)
def test_arq_still_has_what_the_wake_worker_stands_on(name: str) -> None:
    assert inspect.isfunction(getattr(Worker, name))


def test_the_arq_command_still_looks_its_worker_up_when_called() -> None:
    assert "Worker(**" in inspect.getsource(arq.worker.create_worker)
    assert arq.worker.Worker is WakeWorker


def test_only_a_settings_classes_own_attributes_are_read() -> None:
    class Base:
        max_jobs = 77

    class Derived(Base):
        queue_name = "q"

    assert list(arq.worker.get_kwargs(Derived)) == ["queue_name"]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["IngestionSettings", "DeletionSettings"])
def test_every_attribute_stands_in_the_settings_class_itself(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for variable, value in variables_of(settings).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("INGESTION_CONCURRENCY", "3")
    monkeypatch.setenv("DELETION_CONCURRENCY", "3")
    workers.__getattr__.cache_clear()
    made = getattr(workers, name)
    workers.__getattr__.cache_clear()
    own: dict[str, Any] = dict(arq.worker.get_kwargs(made))
    assert made.__bases__ == (object,)
    assert set(own) == {
        *("functions", "queue_name", "max_jobs", "redis_settings", "redis_pool", "on_startup", "on_shutdown"),
        *("job_timeout", "max_tries", "keep_result", "poll_delay", "queue_read_limit", "job_serializer"),
        *("job_deserializer", "expires_extra_ms", "log_results", "ctx"),
    }
    assert own["queue_name"] in {queue_name(settings, queue) for queue in Queue}
    assert (own["max_jobs"], own["keep_result"], own["expires_extra_ms"]) == (3, 0, BODY_TTL_MS)
    assert own["queue_read_limit"] >= 1000


def test_a_lost_connection_is_tried_again_even_before_redis_py_has_wrapped_it(settings: Settings) -> None:
    by_arq = redis_settings(settings).retry_on_error
    by_us = open_worker_redis(settings).connection_pool.connection_kwargs["retry_on_error"]
    for retried in (by_arq, by_us):
        assert {RedisConnectionError, RedisTimeoutError, OSError} <= set(retried or ())


async def test_an_ordinary_exception_is_the_end_of_a_job(bench: Bench) -> None:
    async def fail(_ctx: dict[Any, Any], job_id: str) -> None:
        bench.calls.append(job_id)
        raise ValueError(job_id)

    await bench.notify("once")
    worker = await bench.work(fail, max_tries=5)
    assert bench.calls.count("once") == 1
    assert (worker.jobs_failed, worker.jobs_retried) == (1, 0)


async def test_a_time_out_is_the_end_of_a_job_and_looks_like_a_shutdown_from_inside(bench: Bench) -> None:
    async def hang(_ctx: dict[Any, Any], job_id: str) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            bench.calls.append(job_id)
            raise

    await bench.notify("slow")
    worker = await bench.work(hang, max_tries=5, job_timeout=0.05)
    assert bench.calls.count("slow") == 1
    assert worker.jobs_failed == 1


async def test_no_hook_tells_of_a_body_that_cannot_be_run(bench: Bench) -> None:
    await bench.notify("unknown", function="no_such_function")
    await bench.notify("undecodable")
    await bench.redis.set(f"{job_key_prefix}{bench.name}:undecodable", b"\x80 not json")
    await bench.notify("expired")
    await bench.redis.delete(f"{job_key_prefix}{bench.name}:expired")
    await bench.notify("exhausted", _job_try=7)
    worker = await bench.work(bench.note, max_tries=5)
    assert bench.calls == []
    assert worker.jobs_failed == 4
    assert await bench.redis.zcard(bench.name) == 0


async def test_arq_drops_an_id_that_it_knows_even_on_another_queue(bench: Bench) -> None:
    assert await bench.notify("same")
    assert not await bench.notify("same")
    assert not await bench.notify("same", queue=f"{bench.name}-other")


@pytest.mark.parametrize("keep_result", [0, 3600])
async def test_a_finished_id_is_free_again_only_without_its_result(bench: Bench, keep_result: int) -> None:
    await bench.notify("done")
    await bench.work(bench.note, keep_result=keep_result)
    assert await bench.notify("done") == (keep_result == 0)


async def test_a_body_is_json_and_lives_for_thirty_days_instead_of_one(bench: Bench) -> None:
    await bench.notify("body")
    key = f"{job_key_prefix}{bench.name}:body"
    body = await bench.redis.get(key)
    assert body is not None
    assert deserialize(body)["f"] == "note"
    assert await bench.redis.pttl(key) > BODY_TTL_MS - 2 * DAY_MS
    assert inspect.signature(arq.connections.ArqRedis).parameters["expires_extra_ms"].default == DAY_MS


def test_a_body_is_pickled_by_default() -> None:
    assert pickle.loads(serialize_job("note", (1,), {}, None, 0))["f"] == "note"  # noqa: S301


@pytest.mark.parametrize(("job_timeout", "lives_s"), [(300, 310), (None, 10)])
async def test_a_killed_workers_job_is_kept_from_others_for_its_time_out_and_ten_seconds(
    bench: Bench, job_timeout: int | None, lives_s: int
) -> None:
    async def look(_ctx: dict[Any, Any], job_id: str) -> None:
        bench.calls.append(str(await bench.redis.ttl(f"{in_progress_key_prefix}{bench.name}:{job_id}")))

    await bench.notify("held")
    await bench.work(look, job_timeout=job_timeout)
    assert lives_s - 5 <= int(bench.calls[1]) <= lives_s


async def test_an_exception_in_a_hook_strands_the_job_and_stops_the_worker(bench: Bench) -> None:
    async def fail(_ctx: dict[Any, Any]) -> None:
        raise ValueError("a hook")

    await bench.notify("stranded")
    with pytest.raises(ValueError, match="a hook"):
        await bench.work(bench.note, on_job_end=fail)


def test_arqs_defaults_are_those_that_are_overridden() -> None:
    defaults = {name: parameter.default for name, parameter in inspect.signature(Worker).parameters.items()}
    assert (defaults["poll_delay"], defaults["max_tries"], defaults["keep_result"]) == (0.5, 5, 3600)
    assert defaults["queue_read_limit"] is None


async def test_the_health_key_is_the_queues_and_not_the_workers(bench: Bench) -> None:
    assert health_check_key_suffix.startswith(":")
    worker = await bench.work(bench.note)
    assert worker.health_check_key == bench.name + health_check_key_suffix
    assert default_queue_name + health_check_key_suffix != worker.health_check_key
    assert await bench.redis.get(worker.health_check_key) is None

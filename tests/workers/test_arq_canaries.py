"""Canary tests of the behaviour of arq 0.28 that the workers rely on or work around; an arq upgrade can break them."""

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


class CanaryQueue:
    """A unique queue with arq's unmodified worker, which stops when the queue is empty."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.redis = resources.redis
        self.name = f"{resources.settings.stores.queue_prefix}:canary"
        self.calls: list[str] = []

    async def notify(self, job_id: str, *, function: str = "note", queue: str | None = None, **options: Any) -> bool:
        """Enqueue a job and return whether arq accepted it."""
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
            on_job_start=hook,  # type: ignore[arg-type]  # arq's annotation differs from the call
            after_job_end=hook,  # type: ignore[arg-type]  # arq's annotation differs from the call
            **options,
        )
        try:
            await worker.main()
        finally:
            await worker.close()
        return worker

    async def note(self, _ctx: dict[Any, Any], job_id: str) -> None:
        """Record that the job ran."""
        self.calls.append(job_id)


@pytest.fixture
def canary(resources: Resources) -> CanaryQueue:
    """A new queue."""
    return CanaryQueue(resources)


def test_the_installed_arq_is_the_required_version() -> None:
    assert arq.version.VERSION == "0.28.0"


@pytest.mark.parametrize(
    "name", ["_poll_iteration", "_release_sem_dec_counter_on_complete", "handle_sig", "close", "main", "start_jobs"]
)
def test_arq_still_has_the_methods_that_the_wake_worker_overrides(name: str) -> None:
    assert inspect.isfunction(getattr(Worker, name))


def test_the_arq_command_still_looks_its_worker_up_at_call_time() -> None:
    assert "Worker(**" in inspect.getsource(arq.worker.create_worker)
    assert arq.worker.Worker is WakeWorker


def test_arq_ignores_inherited_attributes_of_a_settings_class() -> None:
    class Base:
        max_jobs = 77

    class Derived(Base):
        queue_name = "q"

    assert list(arq.worker.get_kwargs(Derived)) == ["queue_name"]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["IngestionSettings", "DeletionSettings"])
def test_a_settings_class_defines_every_attribute_itself(
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


def test_a_lost_connection_is_retried_even_if_redis_py_has_not_wrapped_the_error(settings: Settings) -> None:
    by_arq = redis_settings(settings).retry_on_error
    by_us = open_worker_redis(settings).connection_pool.connection_kwargs["retry_on_error"]
    for retried in (by_arq, by_us):
        assert {RedisConnectionError, RedisTimeoutError, OSError} <= set(retried or ())


async def test_an_exception_ends_a_job_without_a_retry(canary: CanaryQueue) -> None:
    async def fail(_ctx: dict[Any, Any], job_id: str) -> None:
        canary.calls.append(job_id)
        raise ValueError(job_id)

    await canary.notify("once")
    worker = await canary.work(fail, max_tries=5)
    assert canary.calls.count("once") == 1
    assert (worker.jobs_failed, worker.jobs_retried) == (1, 0)


async def test_a_timeout_ends_a_job_with_the_same_exception_as_a_shutdown(canary: CanaryQueue) -> None:
    async def hang(_ctx: dict[Any, Any], job_id: str) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            canary.calls.append(job_id)
            raise

    await canary.notify("slow")
    worker = await canary.work(hang, max_tries=5, job_timeout=0.05)
    assert canary.calls.count("slow") == 1
    assert worker.jobs_failed == 1


async def test_no_hook_is_called_for_a_job_that_cannot_run(canary: CanaryQueue) -> None:
    await canary.notify("unknown", function="no_such_function")
    await canary.notify("undecodable")
    await canary.redis.set(f"{job_key_prefix}{canary.name}:undecodable", b"\x80 not json")
    await canary.notify("expired")
    await canary.redis.delete(f"{job_key_prefix}{canary.name}:expired")
    await canary.notify("exhausted", _job_try=7)
    worker = await canary.work(canary.note, max_tries=5)
    assert canary.calls == []
    assert worker.jobs_failed == 4
    assert await canary.redis.zcard(canary.name) == 0


async def test_arq_rejects_a_known_id_even_on_another_queue(canary: CanaryQueue) -> None:
    assert await canary.notify("same")
    assert not await canary.notify("same")
    assert not await canary.notify("same", queue=f"{canary.name}-other")


@pytest.mark.parametrize("keep_result", [0, 3600])
async def test_the_id_of_a_finished_job_is_free_only_without_a_result(canary: CanaryQueue, keep_result: int) -> None:
    await canary.notify("done")
    await canary.work(canary.note, keep_result=keep_result)
    assert await canary.notify("done") == (keep_result == 0)


async def test_a_body_is_json_and_expires_after_thirty_days_instead_of_one(canary: CanaryQueue) -> None:
    await canary.notify("body")
    key = f"{job_key_prefix}{canary.name}:body"
    body = await canary.redis.get(key)
    assert body is not None
    assert deserialize(body)["f"] == "note"
    assert await canary.redis.pttl(key) > BODY_TTL_MS - 2 * DAY_MS
    assert inspect.signature(arq.connections.ArqRedis).parameters["expires_extra_ms"].default == DAY_MS


def test_a_body_is_pickled_by_default() -> None:
    assert pickle.loads(serialize_job("note", (1,), {}, None, 0))["f"] == "note"  # noqa: S301


@pytest.mark.parametrize(("job_timeout", "lives_s"), [(300, 310), (None, 10)])
async def test_a_job_of_a_killed_worker_is_blocked_for_its_timeout_and_ten_seconds(
    canary: CanaryQueue, job_timeout: int | None, lives_s: int
) -> None:
    async def look(_ctx: dict[Any, Any], job_id: str) -> None:
        canary.calls.append(str(await canary.redis.ttl(f"{in_progress_key_prefix}{canary.name}:{job_id}")))

    await canary.notify("held")
    await canary.work(look, job_timeout=job_timeout)
    assert lives_s - 5 <= int(canary.calls[1]) <= lives_s


async def test_an_exception_in_a_hook_stops_the_worker(canary: CanaryQueue) -> None:
    async def fail(_ctx: dict[Any, Any]) -> None:
        raise ValueError("a hook")

    await canary.notify("stranded")
    with pytest.raises(ValueError, match="a hook"):
        await canary.work(canary.note, on_job_end=fail)


def test_the_defaults_of_arq_are_those_that_the_workers_override() -> None:
    defaults = {name: parameter.default for name, parameter in inspect.signature(Worker).parameters.items()}
    assert (defaults["poll_delay"], defaults["max_tries"], defaults["keep_result"]) == (0.5, 5, 3600)
    assert defaults["queue_read_limit"] is None


async def test_the_health_check_key_belongs_to_the_queue_and_not_to_a_worker(canary: CanaryQueue) -> None:
    assert health_check_key_suffix.startswith(":")
    worker = await canary.work(canary.note)
    assert worker.health_check_key == canary.name + health_check_key_suffix
    assert default_queue_name + health_check_key_suffix != worker.health_check_key
    assert await canary.redis.get(worker.health_check_key) is None

"""A property test of the job lifecycle: any sequence of transitions leaves the row in the expected state."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ragsvc.db import dead_jobs, jobs
from ragsvc.db.connections.pool import open_pool
from ragsvc.domain.ids import new_id
from ragsvc.domain.jobs import IngestPayload, Job, JobStatus, Queue, SubjectKind
from ragsvc.errors.work import DocumentRejected, OutageFailure, TransientFailure
from ragsvc.jobs import lifecycle, retry_policy

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from uuid import UUID

    from ragsvc.db.connections.pool import Pool
    from ragsvc.settings.settings import Settings

LEASE_S = 600.0
MAX_ATTEMPTS = 3
ERRORS = {
    "permanent": DocumentRejected("corrupt", "no xref"),
    "transient": TransientFailure("embedding_unavailable", "503"),
    "outage": OutageFailure("embedding_unreachable", "refused"),
}


TEST_SETTINGS = hypothesis_settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@dataclass
class Expected:
    """The expected values of the row."""

    status: JobStatus = JobStatus.QUEUED
    attempts: int = 0
    rescues: int = 0
    generation: int = 1
    replays: int = 0
    lease_token: UUID | None = None
    expired: bool = False
    # All claims so far; all but the current one are stale.
    claims: list[Job] = field(default_factory=list)


class JobMachine(RuleBasedStateMachine):
    """One job without a document, because the lifecycle of a job does not need one."""

    environment: Settings
    runner: asyncio.Runner
    pool: Pool

    @initialize()
    def enqueue(self) -> None:
        self.expected = Expected()
        self.job_id = self.run(self._enqueue()).id

    @rule()
    def claim(self) -> None:
        job = self.run(lifecycle.claim(self.pool, self.job_id, queue=Queue.INGESTION, owner="worker", lease_s=LEASE_S))
        expected = self.expected
        is_rescue = expected.status is JobStatus.RUNNING and expected.expired
        if expected.status is not JobStatus.QUEUED and not is_rescue:
            assert job is None
            return
        assert job is not None
        expected.attempts += not is_rescue
        expected.rescues += is_rescue
        expected.generation += is_rescue
        expected.status, expected.lease_token, expected.expired = JobStatus.RUNNING, job.lease_token, False
        expected.claims.append(job)

    @precondition(lambda self: self.expected.status is JobStatus.RUNNING)
    @rule()
    def expire_lease(self) -> None:
        self.run(self._execute("UPDATE jobs SET lease_until = now() - interval '1 second' WHERE id = $1", self.job_id))
        self.expected.expired = True

    @rule()
    def sweep(self) -> None:
        job = self.run(self._load())
        rescued = self.run(lifecycle.rescue(self.pool, job))
        assert (rescued is not None) == (self.expected.status is JobStatus.RUNNING and self.expected.expired)
        if rescued is not None:
            self._expect_queued(attempts=-1, rescues=1)

    @precondition(lambda self: self.expected.claims)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.expected.claims))
        finished = self.run(self._finish(job))
        assert finished == self._has_lease(job)
        if finished:
            self.expected.status, self.expected.lease_token = JobStatus.DONE, None

    @precondition(lambda self: self.expected.claims)
    @rule(data=st.data(), kind=st.sampled_from(sorted(ERRORS)))
    def fail(self, data: st.DataObject, kind: str) -> None:
        job = data.draw(st.sampled_from(self.expected.claims))
        failure = retry_policy.classify(ERRORS[kind])
        failed = self.run(lifecycle.fail(self.pool, job, failure, settings=self.environment))
        assert (failed is not None) == self._has_lease(job)
        if failed is None:
            return
        if kind == "permanent" or (kind == "transient" and job.attempts >= MAX_ATTEMPTS):
            self.expected.status, self.expected.lease_token = JobStatus.DEAD, None
        else:
            self._expect_queued(attempts=-1 if kind == "outage" else 0)

    @rule()
    def give_up(self) -> None:
        job = self.run(self._load())
        failure = retry_policy.classify(ERRORS["outage"])
        buried = self.run(lifecycle.give_up(self.pool, job, failure))
        assert (buried is not None) == (self.expected.status is JobStatus.QUEUED)
        if buried is not None:
            self.expected.status = JobStatus.DEAD

    @precondition(lambda self: self.expected.claims)
    @rule(data=st.data())
    def hand_back(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.expected.claims))
        queued = self.run(lifecycle.hand_back(self.pool, job))
        assert (queued is not None) == self._has_lease(job)
        if queued is not None:
            self._expect_queued(attempts=-1)

    @precondition(lambda self: self.expected.claims)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.expected.claims))
        renewed = self.run(self._renew(job))
        assert renewed == self._has_lease(job)
        if renewed:
            self.expected.expired = False

    @rule()
    def cancel(self) -> None:
        active = self.expected.status in {JobStatus.QUEUED, JobStatus.RUNNING}
        assert self.run(self._cancel()) == active
        if active:
            self.expected.status, self.expected.lease_token = JobStatus.CANCELLED, None

    @rule()
    def replay(self) -> None:
        job = self.run(self._load())
        replayed = self.run(self._replay(job))
        assert (replayed is not None) == (self.expected.status is JobStatus.DEAD)
        if replayed is not None:
            self._expect_queued()
            self.expected.attempts = self.expected.rescues = 0
            self.expected.replays += 1

    @invariant()
    def the_row_is_as_expected(self) -> None:
        job, expected = self.run(self._load()), self.expected
        assert (job.status, job.attempts, job.rescues) == (expected.status, expected.attempts, expected.rescues)
        assert (job.generation, job.replay_count) == (expected.generation, expected.replays)
        assert job.lease_token == expected.lease_token

    def _expect_queued(self, *, attempts: int = 0, rescues: int = 0) -> None:
        expected = self.expected
        expected.status, expected.lease_token, expected.expired = JobStatus.QUEUED, None, False
        expected.attempts += attempts
        expected.rescues += rescues
        expected.generation += 1
        # Make a delayed retry due immediately.
        self.run(self._execute("UPDATE jobs SET run_at = now() WHERE id = $1", self.job_id))

    def _has_lease(self, job: Job) -> bool:
        return self.expected.status is JobStatus.RUNNING and job.lease_token == self.expected.lease_token

    def run(self, step: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(step)

    async def _enqueue(self) -> Job:
        async with self.pool.acquire() as conn:
            return await lifecycle.enqueue(
                conn,
                self.environment,
                workspace_id=new_id(),
                queue=Queue.INGESTION,
                subject_kind=SubjectKind.DOCUMENT,
                subject_id=new_id(),
                payload=IngestPayload(new_id()),
            )

    async def _load(self) -> Job:
        async with self.pool.acquire() as conn:
            job = await jobs.select_job(conn, self.job_id)
        assert job is not None
        return job

    async def _finish(self, job: Job) -> bool:
        async with self.pool.acquire() as conn:
            return await jobs.finish_job(conn, job)

    async def _renew(self, job: Job) -> bool:
        async with self.pool.acquire() as conn:
            return await jobs.renew_lease(conn, job, lease_s=LEASE_S)

    async def _replay(self, job: Job) -> Job | None:
        async with self.pool.acquire() as conn:
            return await dead_jobs.replay_job(conn, job)

    async def _cancel(self) -> bool:
        job = await self._load()
        async with self.pool.acquire() as conn:
            return await jobs.cancel_active_jobs(
                conn,
                job.workspace_id,
                queue=job.queue,
                subject_kind=job.subject_kind,
                subject_id=job.subject_id,
            )

    async def _execute(self, statement: str, *arguments: object) -> None:
        async with self.pool.acquire() as conn:
            await conn.execute(statement, *arguments)


async def count_impossible(pool: Pool) -> int:
    """Return the number of rows in a state that no sequence of transitions can produce."""
    async with pool.acquire() as conn:
        impossible: int = await conn.fetchval(
            "SELECT count(*) FROM jobs WHERE (status = 'running') <> (lease_token IS NOT NULL) OR attempts < 0"
            " OR rescues < 0 OR generation < 1 + replay_count"
            " OR (status IN ('queued', 'running')) <> (finished_at IS NULL)"
        )
    return impossible


def test_a_job_satisfies_its_invariants_after_any_sequence_of_transitions(settings: Settings) -> None:
    environment = settings.changed({"max_attempts": MAX_ATTEMPTS})
    with asyncio.Runner() as runner:
        opening = open_pool(environment, size=2)
        JobMachine.environment, JobMachine.runner = environment, runner
        JobMachine.pool = runner.run(opening.__aenter__())
        try:
            run_state_machine_as_test(JobMachine, settings=TEST_SETTINGS)
            assert runner.run(count_impossible(JobMachine.pool)) == 0
        finally:
            runner.run(opening.__aexit__(None, None, None))

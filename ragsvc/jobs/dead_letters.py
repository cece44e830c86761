"""Dead letters: jobs that failed permanently, listed in Redis, stored in Postgres, replayed or discarded once."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import islice
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from ragsvc.db import dead_jobs, documents, jobs
from ragsvc.db.audit_events import insert_audit_event
from ragsvc.db.connections.pool import UniqueViolation
from ragsvc.domain.audit import AuditAction, AuditSubject
from ragsvc.domain.documents import DocumentStatus
from ragsvc.domain.ids import format_id
from ragsvc.domain.jobs import (
    SUBJECT_PREFIXES,
    DeadLetterFilter,
    DeadLetterNames,
    JobKind,
    JobStatus,
    Queue,
    SubjectKind,
    show_payload,
)
from ragsvc.errors.requests import DeletionNotDiscardable, ReplayRunning
from ragsvc.jobs import retry_policy, subjects
from ragsvc.queue import dead_letter_list
from ragsvc.queue.connection import REDIS_TROUBLE
from ragsvc.queue.dead_letter_list import DeadLetterList
from ragsvc.telemetry.metrics import REPLAYS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.jobs import Job
    from ragsvc.resources import Resources

PAGE = 500

# Each removal scans the list, so beyond this many it is faster to rebuild it.
MAX_REMOVALS = 100
# The id of an entry, the public id of its job or of the job's subject, or a bare UUID; with or without a generation.
ENTRY_ID_PATTERN = (
    rf"(({'|'.join(('job', *SUBJECT_PREFIXES.values()))})_[0-9a-f]{{32}}"
    r"|[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})(:[0-9]{1,9})?"
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """The counts of a replay; a dry run replays nothing."""

    matched: int
    replayed: int
    superseded: int
    dry_run: bool


@dataclass(frozen=True, slots=True)
class DiscardResult:
    """The counts of a purge; a dry run discards nothing. `refused` counts deletions, which cannot be discarded."""

    matched: int
    discarded: int
    refused: int
    dry_run: bool


def entry_id(job: Job) -> str:
    """Return the id of a job's dead letter, such as `job_018f…:2`; if a replayed job fails again, it gets a new one."""
    return _format_entry_id(job.id, job.generation)


def parse_entry_id(text: str) -> tuple[UUID, int | None]:
    """Parse an id that selects a dead letter into a UUID and the generation, if there is one.

    Accepts the id of an entry, the public id of its job or of the job's subject (`doc_…`), and bare UUIDs.

    Raises:
        ValueError: the text is none of these.
    """
    if not re.fullmatch(ENTRY_ID_PATTERN, text):
        raise ValueError(f"{text!r} is not the id of a dead letter")
    public_id, _, generation = text.partition(":")
    return UUID(public_id.rpartition("_")[2]), int(generation) if generation else None


def to_entry(job: Job) -> dict[str, object]:
    """Return the entry that the Redis list and the admin API show."""
    return {
        "v": 1,
        "entry_id": entry_id(job),
        "job_id": format_id("job", job.id),
        "queue": job.queue,
        "kind": job.kind,
        "document_id": format_id("doc", job.subject_id) if job.subject_kind is SubjectKind.DOCUMENT else None,
        "workspace_id": format_id("ws", job.workspace_id),
        "args": show_payload(job.payload),
        "error": job.error,
        "attempts": job.attempts,
        "rescues": job.rescues,
        "stage": job.stage,
        "enqueued_at": job.created_at,
        "first_failed_at": job.first_failed_at,
        "last_failed_at": job.last_failed_at,
        "worker": job.error.get("worker") if job.error else None,
        "app_version": version("ragsvc"),
        "trace_id": job.trace_id,
        "replay_count": job.replay_count,
    }


def _to_named_entry(job: Job, names: Mapping[UUID, DeadLetterNames]) -> dict[str, object]:
    """Return an entry with the fault and with names, which the list in Redis does not contain."""
    fault = retry_policy.fault_of(job.error.get("code") if job.error else None)
    return {**to_entry(job), "fault": fault, **asdict(names.get(job.id, DeadLetterNames()))}


async def post(resources: Resources, job: Job) -> None:
    """Add a dead job to its list; if Redis is unavailable, the sweeper adds it later."""
    try:
        await DeadLetterList(resources.redis, resources.settings, job.queue).push([to_entry(job)])
    except REDIS_TROUBLE as error:
        log.warning("dead_letter_not_listed", job_id=job.id, error=error)


async def reconcile(resources: Resources, queue: Queue) -> None:
    """Make the list match the newest dead jobs in Postgres, up to its cap."""
    entries = DeadLetterList(resources.redis, resources.settings, queue)
    try:
        listed = await entries.entry_ids()
        async with resources.pool.acquire() as conn:
            dead = await dead_jobs.select_dead_generations(conn, queue, DeadLetterFilter(), limit=dead_letter_list.CAP)
        # Entries written by an older version have ids in a different format, so they are replaced too.
        expected = {_format_entry_id(job_id, generation): job_id for job_id, generation in dead.items()}
        if len(stale := listed - expected.keys()) > MAX_REMOVALS:
            await entries.clear()
            listed = set()
        elif stale:
            await entries.remove(stale)
        unlisted = [job_id for entry, job_id in expected.items() if entry not in listed]
        for page in _pages(unlisted[::-1]):
            missing = await _load(resources, queue, page)
            await entries.push(to_entry(job) for job in reversed(missing))
    except REDIS_TROUBLE as error:
        log.warning("dead_letters_not_reconciled", queue=queue, error=error)


async def list_dead_letters(
    resources: Resources,
    queue: Queue,
    wanted: DeadLetterFilter,
    *,
    limit: int,
    offset: int = 0,
    after: tuple[datetime, UUID] | None = None,
) -> list[dict[str, object]]:
    """Return entries, newest first; `after` is the last failure and the job id of the last entry already shown."""
    async with resources.pool.acquire() as conn:
        dead = await dead_jobs.select_dead_jobs(conn, queue, wanted, limit=limit, offset=offset, after=after)
        names = await dead_jobs.select_dead_names(conn, [job.id for job in dead])
    return [_to_named_entry(job, names) for job in dead]


async def get_dead_letter(
    resources: Resources, queue: Queue, selected: UUID, generation: int | None
) -> dict[str, object] | None:
    """Return the dead letter that a parsed id selects (see `parse_entry_id`), or None."""
    job = await _find(resources, queue, selected, generation)
    if job is None:
        return None
    async with resources.pool.acquire() as conn:
        return _to_named_entry(job, await dead_jobs.select_dead_names(conn, [job.id]))


async def count_dead_letters(resources: Resources, queue: Queue) -> dict[str, int]:
    """Return the number of dead letters by error code."""
    async with resources.pool.acquire() as conn:
        return await dead_jobs.select_dead_counts(conn, queue=queue)


async def discard(resources: Resources, queue: Queue, selected: UUID, generation: int | None) -> bool:
    """Discard the dead letter that a parsed id selects (see `parse_entry_id`); False when there is none.

    Raises:
        DeletionNotDiscardable: it is that of a deletion.
    """
    job = await _find(resources, queue, selected, generation)
    if job is None:
        return False
    if job.kind is JobKind.DELETE:
        raise DeletionNotDiscardable
    await _record_audit(resources, AuditAction.DLQ_PURGED, queue, DeadLetterFilter(ids=(job.id,)), matched=[job.id])
    return await _discard_one(resources, job)


async def discard_matching(
    resources: Resources, queue: Queue, wanted: DeadLetterFilter, *, dry_run: bool = False, limit: int | None = None
) -> DiscardResult:
    """Discard dead jobs one by one, except deletions; a job that is replayed concurrently is skipped."""
    matched = await _match(resources, queue, wanted, limit=limit)
    discarded = refused = 0
    if not dry_run:
        await _record_audit(resources, AuditAction.DLQ_PURGED, queue, wanted, matched=matched)
        for page in _pages(list(matched)):
            for job in await _load_matched(resources, queue, page, matched):
                if job.kind is JobKind.DELETE:
                    refused += 1
                else:
                    discarded += await _discard_one(resources, job)
    return DiscardResult(len(matched), discarded, refused, dry_run)


async def replay(
    resources: Resources,
    queue: Queue,
    wanted: DeadLetterFilter,
    *,
    dry_run: bool = False,
    rate_per_s: float | None = None,
    limit: int | None = None,
) -> ReplayResult:
    """Requeue dead jobs, each exactly once even if replays are repeated or run concurrently.

    Raises:
        ReplayRunning: another replay of this queue is running.
    """
    async with resources.pool.acquire() as lock_conn, lock_conn.transaction():
        name = f"{resources.settings.stores.queue_prefix}:replay:{queue}"
        if not await jobs.try_lock(lock_conn, name, idle_limit_s=None):
            raise ReplayRunning
        matched = await _match(resources, queue, wanted, limit=limit)
        if dry_run:
            return ReplayResult(len(matched), 0, 0, dry_run=True)
        await _record_audit(resources, AuditAction.DLQ_REPLAYED, queue, wanted, matched=matched)
        outcomes: Counter[JobStatus | None] = Counter()
        for page in _pages(list(matched)):
            jobs_of_page = await _load_matched(resources, queue, page, matched)
            for job in jobs_of_page:
                outcomes[await _replay_one(resources, job)] += 1
                if rate_per_s:
                    await asyncio.sleep(1 / rate_per_s)
            # Once per page, because removal scans the list. If this process dies first, the sweeper does it.
            await _unlist(resources, queue, jobs_of_page)
    replayed, superseded = outcomes[JobStatus.QUEUED], outcomes[JobStatus.SUPERSEDED]
    REPLAYS.labels(queue, "replayed").inc(replayed)
    REPLAYS.labels(queue, "superseded").inc(superseded)
    log.info("dead_letters_replayed", queue=queue, matched=len(matched), replayed=replayed, superseded=superseded)
    return ReplayResult(len(matched), replayed, superseded, dry_run=False)


async def _record_audit(
    resources: Resources, action: AuditAction, queue: Queue, wanted: DeadLetterFilter, *, matched: Collection[UUID]
) -> None:
    """Record the audit event before the first job changes, so that an interrupted run is on record too."""
    if matched:
        details: dict[str, object] = {
            "code": wanted.code,
            "workspace_id": format_id("ws", wanted.workspace_id) if wanted.workspace_id else None,
            "since": wanted.since,
            "requested_ids": [str(one) for one in islice(wanted.ids, PAGE)] if wanted.ids is not None else None,
            "ids": [format_id("job", job_id) for job_id in islice(matched, PAGE)] if wanted.ids is not None else None,
            "matched": len(matched),
        }
        async with resources.pool.acquire() as conn:
            await insert_audit_event(
                conn,
                action,
                workspace_id=wanted.workspace_id,
                subject=(AuditSubject.QUEUE, queue),
                details={name: value for name, value in details.items() if value is not None},
            )


async def _replay_one(resources: Resources, job: Job) -> JobStatus | None:
    """Return `queued` or `superseded`, or None if another process changed the job first."""
    async with resources.pool.acquire() as conn:
        try:
            async with conn.transaction():
                queued = await _requeue(conn, job)
        except UniqueViolation:  # the subject has another active job
            queued = None
        if queued is None:
            superseded = await dead_jobs.update_dead_status(conn, job, status=JobStatus.SUPERSEDED)
            outcome = JobStatus.SUPERSEDED if superseded else None
        else:
            outcome = JobStatus.QUEUED
    if queued is not None:
        await resources.notifier.notify(queued)
    return outcome


async def _requeue(conn: Connection, job: Job) -> Job | None:
    if job.subject_kind is SubjectKind.DOCUMENT:
        locked = await documents.lock_document(conn, job.workspace_id, job.subject_id)
        # A deletion is replayed even if the document's row is gone: it still has to write its receipt.
        if job.queue is Queue.INGESTION and (locked is None or locked[0] is DocumentStatus.DELETING):
            return None
    queued = await dead_jobs.replay_job(conn, job)
    if queued is not None:
        await subjects.show_queued(conn, queued)
    return queued


async def _discard_one(resources: Resources, job: Job) -> bool:
    async with resources.pool.acquire() as conn:
        discarded = await dead_jobs.update_dead_status(conn, job, status=JobStatus.DISCARDED)
    await _unlist(resources, job.queue, [job])
    return discarded


async def _match(resources: Resources, queue: Queue, wanted: DeadLetterFilter, *, limit: int | None) -> dict[UUID, int]:
    async with resources.pool.acquire() as conn:
        return await dead_jobs.select_dead_generations(conn, queue, wanted, limit=limit or 2**31 - 1)


async def _load(resources: Resources, queue: Queue, job_ids: Sequence[UUID]) -> list[Job]:
    async with resources.pool.acquire() as conn:
        return await dead_jobs.select_dead_jobs_by_id(conn, queue, job_ids)


async def _load_matched(
    resources: Resources, queue: Queue, job_ids: Sequence[UUID], matched: Mapping[UUID, int]
) -> list[Job]:
    """Return the matched jobs that are still dead in the same generation; a later failure was not selected."""
    return [job for job in await _load(resources, queue, job_ids) if job.generation == matched[job.id]]


def _pages(job_ids: list[UUID]) -> Iterator[list[UUID]]:
    return (job_ids[start : start + PAGE] for start in range(0, len(job_ids), PAGE))


async def _find(resources: Resources, queue: Queue, selected: UUID, generation: int | None) -> Job | None:
    async with resources.pool.acquire() as conn:
        found = await dead_jobs.select_dead_jobs(conn, queue, DeadLetterFilter(ids=(selected,)), limit=1)
    return next((job for job in found if generation in {None, job.generation}), None)


def _format_entry_id(job_id: UUID, generation: int) -> str:
    return f"{format_id('job', job_id)}:{generation}"


async def _unlist(resources: Resources, queue: Queue, gone: Iterable[Job]) -> None:
    entries = DeadLetterList(resources.redis, resources.settings, queue)
    try:
        await entries.remove({entry_id(job) for job in gone})
    except REDIS_TROUBLE as error:
        log.warning("dead_letter_not_unlisted", queue=queue, error=error)

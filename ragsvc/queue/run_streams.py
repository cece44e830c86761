"""A run's events in a Redis stream, through which any process can follow the run; losing a stream loses no result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from ragsvc.queue.connection import RedisConnection

# An event's number, counted from 1, and its content.
Entry: TypeAlias = tuple[int, bytes]

FIELD = b"e"
# How long a run can be followed from Redis; afterwards its result is read from Postgres.
EVENTS_TTL_S = 3600
# The number of the entry that closes a stream, which is larger than that of any event.
CLOSED_ID = 2**53 - 1
# What a closed stream contains: readers find the end of the run in Postgres.
CLOSED = b'["stored"]'


def run_key(prefix: str, run_id: UUID) -> str:
    """Return the key of a run's stream."""
    return f"{prefix}:run:{run_id.hex}"


async def append_events(redis: RedisConnection, prefix: str, batches: Mapping[UUID, Sequence[Entry]]) -> None:
    """Append events of any number of runs in one round trip, and extend each stream's expiry to EVENTS_TTL_S.

    An event's id in the stream is its number, so appending it twice changes nothing.

    Raises:
        RedisError, OSError: Redis is unavailable; some of the events may have been appended.
    """
    async with redis.pipeline(transaction=False) as pipe:
        for run_id, entries in batches.items():
            key = run_key(prefix, run_id)
            for event_id, content in entries:
                pipe.xadd(key, {FIELD: content}, id=f"{event_id}-0")
            pipe.expire(key, EVENTS_TTL_S)
        # Redis rejects the number of an event that the stream already has, which is fine.
        await pipe.execute(raise_on_error=False)


async def read_events(redis: RedisConnection, prefix: str, run_id: UUID, *, after: int) -> list[Entry]:
    """Return the events in Redis after number `after`."""
    entries: list[tuple[bytes, dict[bytes, bytes]]] = await redis.xrange(run_key(prefix, run_id), min=f"({after}-0")
    return read_entries(entries)


async def count_streams(redis: RedisConnection, prefix: str, run_ids: Sequence[UUID]) -> int:
    """Return how many of the runs have events in Redis.

    Raises:
        RedisError, OSError: Redis is unavailable.
    """
    if not run_ids:
        return 0
    async with redis.pipeline(transaction=False) as pipe:
        for run_id in run_ids:
            pipe.xrange(run_key(prefix, run_id), max=f"({CLOSED_ID}-0", count=1)
        return sum(bool(entries) for entries in await pipe.execute())


async def close_streams(redis: RedisConnection, prefix: str, run_ids: Sequence[UUID]) -> None:
    """Replace the events of the runs by one entry, which keeps Redis from accepting any further event.

    An owner that has not noticed yet that its run has ended could otherwise make the stream again. A stream is closed
    for as long as it would live.

    Raises:
        RedisError, OSError: Redis is unavailable.
    """
    if not run_ids:
        return
    async with redis.pipeline(transaction=False) as pipe:
        for run_id in run_ids:
            key = run_key(prefix, run_id)
            # One command, so that no event is accepted between the removal and the entry.
            pipe.xadd(key, {FIELD: CLOSED}, id=f"{CLOSED_ID}-0", maxlen=1, approximate=False)
            pipe.expire(key, EVENTS_TTL_S)
        replies = await pipe.execute(raise_on_error=False)
    for reply in replies:
        # Redis rejects the entry if the stream is closed already, which is fine.
        if isinstance(reply, Exception) and "equal or smaller" not in str(reply):
            raise reply


def read_entries(entries: Sequence[tuple[bytes, Mapping[bytes, bytes]]] | Any) -> list[Entry]:  # noqa: ANN401 - redis-py has no types here
    """Return the entries of a stream as events; one without the field of events has no content."""
    return [(int(entry_id.partition(b"-")[0]), fields.get(FIELD, b"")) for entry_id, fields in entries]

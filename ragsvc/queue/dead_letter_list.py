"""The Redis lists `{prefix}:{queue}:dlq`: a projection of the dead jobs in Postgres for people and tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from ragsvc.domain.jobs import Queue
    from ragsvc.queue.connection import RedisConnection
    from ragsvc.settings.settings import Settings

# KEYS: the list, the set of its entry ids. ARGV: the cap, then pairs of entry id and entry, oldest first.
# An entry is not pushed twice. Entries beyond the cap are removed from both.
PUSH = """
local pushed = 0
for i = 2, #ARGV, 2 do
    if redis.call('SADD', KEYS[2], ARGV[i]) == 1 then
        redis.call('LPUSH', KEYS[1], ARGV[i + 1])
        pushed = pushed + 1
    end
end
local cap = tonumber(ARGV[1])
while redis.call('LLEN', KEYS[1]) > cap do
    local readable, entry = pcall(cjson.decode, redis.call('RPOP', KEYS[1]))
    if readable and type(entry) == 'table' and type(entry['entry_id']) == 'string' then
        redis.call('SREM', KEYS[2], entry['entry_id'])
    end
end
return pushed
"""

# KEYS: the list, the set of its entry ids. ARGV: pairs of entry id and entry.
REMOVE = """
local removed = 0
for i = 1, #ARGV, 2 do
    redis.call('SREM', KEYS[2], ARGV[i])
    removed = removed + redis.call('LREM', KEYS[1], 0, ARGV[i + 1])
end
return removed
"""

PAGE = 500
# Length of a list in entries, about 10 MB in total; Postgres has all dead letters.
CAP = 10_000


class DeadLetterList:
    """One queue's list and the set of its entry ids; every method can raise errors of Redis."""

    def __init__(self, redis: RedisConnection, settings: Settings, queue: Queue) -> None:
        self._redis = redis
        self._call: Callable[..., Awaitable[Any]] = redis.execute_command
        self._key = f"{settings.stores.queue_prefix}:{queue}:dlq"
        self._ids_key = f"{self._key}:ids"

    async def push(self, entries: Iterable[dict[str, object]]) -> int:
        """Push the entries that the list lacks, oldest first, and return how many were pushed."""
        arguments = [part for entry in entries for part in (str(entry["entry_id"]), orjson.dumps(entry))]
        if not arguments:
            return 0
        pushed: int = await self._call("EVAL", PUSH, 2, self._key, self._ids_key, CAP, *arguments)
        return pushed

    async def remove(self, entry_ids: set[str]) -> int:
        """Remove entries from the list, and those that are unreadable, and return how many were removed."""
        found = [
            part
            async for entry_id, raw in self._entries()
            if not entry_id or entry_id in entry_ids
            for part in (entry_id, raw)
        ]
        if not found:
            return 0
        removed: int = await self._call("EVAL", REMOVE, 2, self._key, self._ids_key, *found)
        return removed

    async def clear(self) -> None:
        """Empty the list, for it to be rebuilt."""
        await self._redis.delete(self._key, self._ids_key)

    async def entry_ids(self) -> set[str]:
        """Return the entry ids; if the list and the set disagree, delete both so that they are filled again."""
        ids = {member.decode(errors="replace") for member in await self._call("SMEMBERS", self._ids_key)}
        if len(ids) != await self._call("LLEN", self._key):
            await self.clear()
            return set()
        return ids

    async def _entries(self) -> AsyncIterator[tuple[str, bytes]]:
        start = 0
        while page := await self._call("LRANGE", self._key, start, start + PAGE - 1):
            for raw in page:
                yield _read_entry_id(raw), raw
            start += len(page)


def _read_entry_id(raw: bytes) -> str:
    """Return the id in an entry, or '' if something else than this service wrote it."""
    try:
        entry_id = orjson.loads(raw)["entry_id"]
    except (ValueError, TypeError, LookupError):
        return ""
    return entry_id if isinstance(entry_id, str) else ""

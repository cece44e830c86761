"""Limits how many runs a process answers at once, for each key, each workspace and altogether."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ragsvc.errors.requests import TooManyRuns
from ragsvc.shares import SERVICE, Shares, holder_now

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.settings.settings import Settings
    from ragsvc.shares import Share


class RunPermits:
    """The permits for runs; a run has one from its start to its end, whether or not anybody reads it."""

    def __init__(self, settings: Settings) -> None:
        self._shares = Shares("runs", settings.api.max_runs)
        self._limit_per_key = settings.api.max_runs_per_key
        self._per_key: Counter[UUID] = Counter()

    def take(self) -> RunPermit:
        """Return a permit for a run of the current request's key.

        Raises:
            TooManyRuns: the key, its workspace or the process has reached its limit of runs.
        """
        holder = holder_now.get()
        if holder != SERVICE and self._per_key[holder.key_id] >= self._limit_per_key:
            raise TooManyRuns
        share = self._shares.try_take(holder=holder)
        if share is None:
            raise TooManyRuns
        self._per_key[holder.key_id] += 1
        return RunPermit(self, share)

    def give_back(self, share: Share) -> None:
        """Return a permit; called by `RunPermit.release`."""
        share.release()
        key_id = share.holder.key_id
        self._per_key[key_id] -= 1
        if not self._per_key[key_id]:
            del self._per_key[key_id]


class RunPermit:
    """The permit of one run."""

    def __init__(self, permits: RunPermits, share: Share) -> None:
        self._permits = permits
        self._share: Share | None = share

    def release(self) -> None:
        """Give the permit back; idempotent."""
        share, self._share = self._share, None
        if share is not None:
            self._permits.give_back(share)

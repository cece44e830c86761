"""The rate limit of the embedding provider, as model calls use it; `ragsvc.queue.provider_rate` implements it."""

from __future__ import annotations

from typing import Protocol


class ProviderRate(Protocol):
    """A budget of requests and tokens per minute, shared by all processes of a deployment.

    Methods raise only CancelledError.
    """

    async def wait_for_turn(self, *, tokens: int) -> None:
        """Wait until the budget allows a request of `tokens` tokens, and charge it."""

    async def go_first(self, *, tokens: int) -> None:
        """Charge a request of `tokens` tokens without waiting; this delays the requests that are waiting."""

    async def hold(self, *, seconds: float) -> None:
        """Delay all waiting requests for `seconds`, because the provider asked for a pause."""

"""What the model calls ask of whoever keeps the fleet's rate towards the provider."""

from __future__ import annotations

from typing import Protocol


class EmbeddingRate(Protocol):
    """A budget of requests and tokens per minute; no method raises anything but a cancellation."""

    async def wait_for_turn(self, *, tokens: int) -> None:
        """Return once the budget allows a request of so many tokens, which are then taken."""

    async def go_first(self, *, tokens: int) -> None:
        """Take a request of so many tokens without waiting; those who wait for their turn wait longer for it."""

    async def hold(self, *, seconds: float) -> None:
        """Give nobody a turn for so long, because the provider said so."""

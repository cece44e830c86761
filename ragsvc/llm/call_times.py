"""How long recent embedding calls took, by the number of their texts."""

from __future__ import annotations

import secrets
from collections import defaultdict, deque

# With fewer known calls, a time drawn from them would be recognizable.
MIN_KNOWN = 32
MAX_KNOWN = 256


class CallTimes:
    """The times of the last calls of each size, from which the time of a call that is not made can be drawn."""

    def __init__(self) -> None:
        self._known: defaultdict[int, deque[float]] = defaultdict(lambda: deque(maxlen=MAX_KNOWN))

    def add(self, size: int, *, seconds: float) -> None:
        """Add the time of a call with `size` texts."""
        self._known[size].append(seconds)

    def draw(self, size: int) -> float | None:
        """Return the time of one of the last calls of this size, in seconds; None if too few are known."""
        known = self._known.get(size, ())
        return secrets.choice(known) if len(known) >= MIN_KNOWN else None

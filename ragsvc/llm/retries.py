"""When a call is tried again at once, while somebody waits for the answer."""

from __future__ import annotations

from ragsvc.errors import OutageFailure, TransientFailure

QUICK_TRIES = 3
# No try begins later than this: a model that was silent until its timeout is not asked again.
QUICK_TRIES_S = 5.0
LONGEST_WAIT_S = 2.0


def is_worth_a_quick_try(error: Exception) -> bool | float:
    """Tell stamina whether to try again; the seconds to wait when the server named them."""
    if isinstance(error, OutageFailure):
        return True
    if not isinstance(error, TransientFailure):
        return False
    if error.retry_after_s is None:
        return True
    return error.retry_after_s if error.retry_after_s <= LONGEST_WAIT_S else False

"""When to retry a call immediately, because a client is waiting for the result."""

from __future__ import annotations

from ragsvc.errors.work import OutageFailure, TransientFailure

QUICK_ATTEMPTS = 3
# No attempt begins later than this, so a call that ran into its timeout is not retried.
QUICK_ATTEMPTS_S = 5.0
MAX_WAIT_S = 2.0


def should_retry_now(error: Exception) -> bool | float:
    """Tell stamina whether to retry, or how many seconds to wait before that if the server specified it."""
    if isinstance(error, OutageFailure):
        # A server that responded, for example because the quota is used up, will not change its mind within seconds.
        return error.http_status is None
    if not isinstance(error, TransientFailure):
        return False
    if error.retry_after_s is None:
        return True
    return error.retry_after_s if error.retry_after_s <= MAX_WAIT_S else False

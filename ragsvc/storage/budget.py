"""The memory of this process for uploads that are on their way to the store, with a share for each workspace."""

from __future__ import annotations

from ragsvc.shares import Shares

# What small files take on top of UPLOAD_BUFFER_BYTES.
SMALL_FRACTION = 8
MIN_SMALL_BYTES = 1024 * 1024
# Longer than the turn of a part (see `uploads.part_buffers`), so that one turn ends while a caller waits.
MAX_WAIT_S = 45.0


class BufferBudget:
    """Memory for parts, and a reserve for small files, which therefore need not wait for slow large ones.

    A caller must not wait for a share of `parts` while it holds one that is released only when the caller itself makes
    progress. It can hold the share of a part that is being stored, because that share is released in any case, and a
    share of `small`, for which nobody waits. This way, callers cannot deadlock.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.parts = Shares("upload_parts", limit_bytes, max_wait_s=MAX_WAIT_S)
        self.small = Shares("small_uploads", max(limit_bytes // SMALL_FRACTION, MIN_SMALL_BYTES))

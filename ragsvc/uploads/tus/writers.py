"""Write leases: one request at a time appends to an upload, and gives way to the next one when no bytes arrive.

The lease is a column rather than an advisory lock, because a lock would occupy a pooled connection for as long as a
slow client sends, and would not work behind a transaction pooler.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from ragsvc.db import upload_writers
from ragsvc.domain.ids import new_id
from ragsvc.errors.requests import UploadLocked, UploadNotPending
from ragsvc.tasks import cancel_and_wait, in_background, keep_renewed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from uuid import UUID

    from ragsvc.domain.uploads import Upload
    from ragsvc.resources import Resources

# The lease of a killed process ends after this time.
LEASE_S = 6.0
RENEW_INTERVAL_S = 1.0
# A writer that has received nothing for this long gives way to a waiting request; while bytes arrive, it does not.
SILENT_S = 1.0
# A writer that has received nothing for this long stops, even if no request waits.
IDLE_S = 60.0
# How long a request waits for the lease.
WAIT_S = 3.0
POLL_S = 0.1

log = structlog.get_logger(__name__)


class Writer:
    """A request's write lease on its upload."""

    def __init__(self, resources: Resources, upload: Upload, should_leave: Callable[[], bool]) -> None:
        self._resources = resources
        self._upload = upload
        self._should_leave = should_leave
        self._id = new_id()
        self._leaving = asyncio.Event()
        self._held_until = 0.0
        self._silent_since: float | None = None

    async def blocks(self, source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the blocks of the source until it ends or this writer must give way."""
        leaving = asyncio.create_task(self._leaving.wait())
        reading: asyncio.Task[bytes | None] | None = None
        try:
            while not self._leaving.is_set():
                reading = asyncio.create_task(_next(source))
                self._silent_since = time.monotonic()
                await asyncio.wait({reading, leaving}, return_when=asyncio.FIRST_COMPLETED)
                self._silent_since = None
                block = reading.result() if reading.done() else None
                if block is None:
                    return
                yield block
        finally:
            await cancel_and_wait(leaving, *([reading] if reading else []))

    def require(self) -> None:
        """Check that the lease has not expired.

        Raises:
            UploadLocked: it has expired, so another request may have taken it.
        """
        if time.monotonic() >= self._held_until:
            raise UploadLocked("Another request has taken over the upload.")

    async def name_tail(self, tail_id: UUID) -> bool:
        """Let a tail count; return False if the lease was lost or the upload has ended."""
        async with self._resources.pool.acquire() as conn:
            return await upload_writers.update_tail(
                conn, self._upload.workspace_id, self._upload.id, writer=self._id, tail_id=tail_id
            )

    async def take(self) -> None:
        """Acquire the lease, waiting up to WAIT_S seconds; raises the same errors as `writing`."""
        deadline = time.monotonic() + WAIT_S
        while not await self._try_take():
            if time.monotonic() > deadline:
                raise UploadLocked
            await asyncio.sleep(POLL_S)

    async def renew(self) -> bool:
        """Renew the lease, and make this writer give way when another request waits and no bytes arrive."""
        is_requested = await self._renew()
        silent_s = time.monotonic() - self._silent_since if self._silent_since else 0.0
        if (
            is_requested is None
            or (is_requested and silent_s >= SILENT_S)
            or silent_s >= IDLE_S
            or self._should_leave()
        ):
            self._leaving.set()
        return True

    async def release(self) -> None:
        """Release the lease, so that the next request need not wait until it expires."""
        try:
            async with self._resources.pool.acquire() as conn:
                await upload_writers.release_writing(conn, self._upload.workspace_id, self._upload.id, writer=self._id)
        except Exception as error:  # noqa: BLE001 - the lease expires anyway
            log.warning("upload_not_released", upload_id=self._upload.id, error=error)

    async def _try_take(self) -> bool:
        upload, requested_at = self._upload, time.monotonic()
        async with self._resources.pool.acquire() as conn:
            if await upload_writers.take_writing(
                conn, upload.workspace_id, upload.id, writer=self._id, lease_s=LEASE_S
            ):
                self._held_until = requested_at + LEASE_S
                return True
            if not await upload_writers.ask_writer(conn, upload.workspace_id, upload.id):
                raise UploadNotPending
        return False

    async def _renew(self) -> bool | None:
        upload, requested_at = self._upload, time.monotonic()
        async with self._resources.pool.acquire() as conn:
            is_requested = await upload_writers.renew_writing(
                conn, upload.workspace_id, upload.id, writer=self._id, lease_s=LEASE_S
            )
        self._held_until = 0.0 if is_requested is None else requested_at + LEASE_S
        return is_requested


@asynccontextmanager
async def writing(
    resources: Resources, upload: Upload, *, should_leave: Callable[[], bool] = lambda: False
) -> AsyncIterator[Writer]:
    """Hold the write lease of an upload; the writer also gives way once `should_leave` returns True.

    Raises:
        UploadLocked: another request is appending and still receives bytes.
        UploadNotPending: the upload has ended or is being completed.
    """
    writer = Writer(resources, upload, should_leave)
    await writer.take()
    try:
        async with in_background(
            keep_renewed(writer.renew, interval_s=RENEW_INTERVAL_S, event="upload_lease_not_renewed")
        ):
            yield writer
    finally:
        await asyncio.shield(writer.release())


async def _next(source: AsyncIterator[bytes]) -> bytes | None:
    return await anext(source, None)

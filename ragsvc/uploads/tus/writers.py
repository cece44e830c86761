"""One request at a time appends to an upload, and makes room for its client's next one when the line has died.

The hold is a leased column and no advisory lock: that would take a connection of the pool for as long as a slow
client sends, and is not to be had behind a transaction pooler.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from ragsvc.db import upload_writers
from ragsvc.domain.ids import new_id
from ragsvc.errors import UploadLocked, UploadNotPending
from ragsvc.tasks import cancel_and_wait, in_background, keep_renewed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ragsvc.domain.uploads import Upload
    from ragsvc.resources import Resources

# A process that was killed holds an upload no longer.
LEASE_S = 6.0
RENEW_INTERVAL_S = 1.0
# Whoever has heard nothing for this long makes room when it is asked; while bytes come, it does not.
SILENT_S = 1.0
# Nobody asks: how long a silent line is listened to.
IDLE_S = 60.0
# How long a request waits for the one before it.
WAIT_S = 3.0
POLL_S = 0.1

log = structlog.get_logger(__name__)


class Writer:
    """The hold of a request on its upload."""

    def __init__(self, resources: Resources, upload: Upload, should_leave: Callable[[], bool]) -> None:
        self._resources = resources
        self._upload = upload
        self._should_leave = should_leave
        self._id = new_id()
        self._leaving = asyncio.Event()
        self._held_until = 0.0
        self._silent_since: float | None = None

    async def blocks(self, source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield what comes, until it ends or another shall append."""
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
        """Return while nobody else can hold the upload.

        Raises:
            UploadLocked: another may.
        """
        if time.monotonic() >= self._held_until:
            raise UploadLocked("Another request has taken the upload over.")

    async def take(self) -> None:
        """Get the hold; raises like `writing`."""
        deadline = time.monotonic() + WAIT_S
        while not await self._try_take():
            if time.monotonic() > deadline:
                raise UploadLocked
            await asyncio.sleep(POLL_S)

    async def renew(self) -> bool:
        """Renew the lease, and make this writer leave when another asks for the upload and no bytes arrive."""
        asked = await self._renew()
        silent_s = time.monotonic() - self._silent_since if self._silent_since else 0.0
        if asked is None or (asked and silent_s >= SILENT_S) or silent_s >= IDLE_S or self._should_leave():
            self._leaving.set()
        return True

    async def release(self) -> None:
        """Let another append; it need not wait for the lease's end."""
        try:
            async with self._resources.pool.acquire() as conn:
                await upload_writers.release_writing(conn, self._upload.workspace_id, self._upload.id, writer=self._id)
        except Exception as error:  # noqa: BLE001 - its time runs out by itself
            log.warning("upload_not_released", upload_id=self._upload.id, error=error)

    async def _try_take(self) -> bool:
        upload, asked_at = self._upload, time.monotonic()
        async with self._resources.pool.acquire() as conn:
            if await upload_writers.take_writing(
                conn, upload.workspace_id, upload.id, writer=self._id, lease_s=LEASE_S
            ):
                self._held_until = asked_at + LEASE_S
                return True
            if not await upload_writers.ask_writer(conn, upload.workspace_id, upload.id):
                raise UploadNotPending
        return False

    async def _renew(self) -> bool | None:
        upload, asked_at = self._upload, time.monotonic()
        async with self._resources.pool.acquire() as conn:
            asked = await upload_writers.renew_writing(
                conn, upload.workspace_id, upload.id, writer=self._id, lease_s=LEASE_S
            )
        self._held_until = 0.0 if asked is None else asked_at + LEASE_S
        return asked


@asynccontextmanager
async def writing(
    resources: Resources, upload: Upload, *, should_leave: Callable[[], bool] = lambda: False
) -> AsyncIterator[Writer]:
    """Hold an upload; `should_leave` tells that this process is about to stop.

    Raises:
        UploadLocked: another request appends, and bytes come to it.
        UploadNotPending: the upload is over, or on its way.
    """
    writer = Writer(resources, upload, should_leave)
    await writer.take()
    try:
        async with in_background(
            keep_renewed(writer.renew, interval_s=RENEW_INTERVAL_S, event="upload_hold_not_renewed")
        ):
            yield writer
    finally:
        await asyncio.shield(writer.release())


async def _next(source: AsyncIterator[bytes]) -> bytes | None:
    return await anext(source, None)

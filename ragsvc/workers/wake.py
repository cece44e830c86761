"""An arq worker that starts a job within milliseconds of its notification and survives Redis outages."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import signal
import time
from typing import TYPE_CHECKING, Any

import structlog
from arq.worker import Worker

from ragsvc.queue.connection import REDIS_TROUBLE, wait_for_redis, wake_channel
from ragsvc.telemetry.logs import configure_logging
from ragsvc.workers.heartbeat import Heartbeat

if TYPE_CHECKING:
    from ragsvc.settings.settings import Settings

# Polling interval when nothing wakes the worker; deferred jobs start at most this late.
IDLE_S = 1.0
RECONNECT_S = 0.5
LISTEN_S = 60.0
GRACE_S = 25.0

log = structlog.get_logger(__name__)


class WakeWorker(Worker):
    """arq's worker, woken by the queue's channel and by finished jobs; requires `poll_delay = 0`."""

    # The `arq` command passes only the settings that the signature names.
    __signature__ = inspect.signature(Worker)

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - arq's own signature
        super().__init__(*args, **kwargs)
        self._wake = asyncio.Event()
        self._listener: asyncio.Task[None] | None = None
        # If set, jobs are cancelled because the worker is shutting down (see workers/runner.py).
        self.ctx["stopping"] = asyncio.Event()
        settings: Settings | None = self.ctx.get("settings")
        self._grace_s = settings.jobs.worker_grace_s if settings else GRACE_S
        self._heartbeat = Heartbeat(settings.jobs.worker_alive_file if settings else None)

    async def main(self) -> None:
        """Run once Redis replies; arq itself waits only for a client that it opened."""
        if "settings" in self.ctx:
            # Replaces the logging that the `arq` command has configured.
            configure_logging(self.ctx["settings"])
        self._heartbeat.begin()
        if self._pool is not None:
            await wait_for_redis(self._pool)
        await super().main()

    def handle_sig(self, signum: signal.Signals) -> None:
        """Stop: jobs are cancelled and handed back. Further signals are ignored."""
        self.ctx["stopping"].set()
        super().handle_sig(signum)
        if self._handle_signals:
            self._ignore_signals()

    async def close(self) -> None:
        """Stop listening, wait until all jobs have ended, then close as arq does, even if Redis is unavailable."""
        if not self._handle_signals:
            self.handle_sig(signal.SIGUSR1)
        background = [*self.tasks.values(), *([self._listener] if self._listener else [])]
        if self._listener is not None:
            self._listener.cancel()
        if background:
            # arq would raise at the first cancelled job and leave everything open.
            await asyncio.wait(background, timeout=self._grace_s)
        self.tasks.clear()
        try:
            async with asyncio.timeout(self._grace_s):
                await super().close()
        except REDIS_TROUBLE as error:
            log.warning("redis_unavailable", error=error)
            # arq writes to Redis before it calls on_shutdown, so the error skipped that call.
            if self.on_shutdown is not None:
                await self.on_shutdown(self.ctx)
        self._heartbeat.stop()

    async def _poll_iteration(self) -> None:
        self._heartbeat.beat()
        # For ragsvc/workers/presence.py.
        self.ctx["looked_at"] = time.monotonic()
        if self.ctx["stopping"].is_set():
            # A library that waited for Redis has swallowed the cancellation.
            raise asyncio.CancelledError
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen())
        self._wake.clear()
        try:
            await super()._poll_iteration()
        except REDIS_TROUBLE as error:
            log.warning("redis_unavailable", error=error)
            await self._reset_slots()
            await asyncio.sleep(RECONNECT_S)
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), IDLE_S)

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """Start the jobs that are not running here yet; for the others arq would make four calls to Redis each time."""
        running = {job_id for job_id, task in self.tasks.items() if not task.done()}
        await super().start_jobs([job_id for job_id in job_ids if job_id.decode() not in running])

    def _ignore_signals(self) -> None:
        """Ignore further signals, which could end the process while it closes.

        The loop restores the default handlers when it closes, so removing its own handlers is not enough.
        """
        for signum in (signal.SIGINT, signal.SIGTERM):
            self.loop.remove_signal_handler(signum)
            signal.signal(signum, signal.SIG_IGN)

    def _release_sem_dec_counter_on_complete(self) -> None:
        super()._release_sem_dec_counter_on_complete()
        self._wake.set()

    async def _reset_slots(self) -> None:
        """Release the slots that arq acquired for jobs that it could not start because Redis failed."""
        running = sum(not task.done() for task in self.tasks.values())
        self.job_counter = running
        self.sem = asyncio.BoundedSemaphore(self.max_jobs + 1)
        for _ in range(running):
            await self.sem.acquire()

    async def _listen(self) -> None:
        while True:
            try:
                async with self.pool.pubsub() as channel:
                    await channel.subscribe(wake_channel(self.queue_name))
                    # Wake once for notifications that were sent before the subscription.
                    self._wake.set()
                    while True:
                        # With its own timeout, because silence on this connection is normal.
                        if await channel.get_message(timeout=LISTEN_S):
                            self._wake.set()
            except REDIS_TROUBLE:
                await asyncio.sleep(RECONNECT_S)

"""Runs parsers in child processes, so that no document can hang a worker, crash it or exhaust its memory."""

from __future__ import annotations

import asyncio
import multiprocessing
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from pebble import ProcessExpired

from ragsvc.errors.work import DocumentErrorCode, DocumentRejected, TransientFailure
from ragsvc.ingestion.parsing.limits import ParseLimits
from ragsvc.ingestion.parsing.progress import read_progress
from ragsvc.ingestion.sandbox import child
from ragsvc.ingestion.sandbox.environment import hide_environment
from ragsvc.ingestion.sandbox.results import iterate_chunks, read_parsed
from ragsvc.ingestion.sandbox.slot import Slot, prevent_main_reimport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from pebble import ProcessFuture

    from ragsvc.domain.collections import Chunking
    from ragsvc.settings.settings import Settings

    Report = Callable[[float], Awaitable[None]]

__all__ = ["ParseOutcome", "Sandbox", "iterate_chunks", "open_sandbox", "read_parsed"]

log = structlog.get_logger(__name__)

FORK_SERVER = "ragsvc.ingestion.sandbox.fork_server"
TASKS = "ragsvc.ingestion.sandbox.tasks"
TOKENIZERS = "ragsvc.llm.token_counting"
ATTEMPTS = 2
# A warm child starts a task within milliseconds.
START_TIMEOUT_S = 30.0
# Raised by pebble when a child dies (ProcessExpired is an OSError) or when a pool is broken.
POOL_FAILURES = (OSError, RuntimeError)


PROGRESS_INTERVAL_S = 0.25


async def ignore_progress(fraction: float) -> None:
    """Discard a progress report."""


class TaskNotStarted(RuntimeError):
    """No child started the task in time."""


@dataclass(frozen=True, slots=True)
class ParseOutcome:
    """The result of parsing a file; `page_count` is None for formats without pages."""

    page_count: int | None
    text_length: int
    media_type: str


@asynccontextmanager
async def open_sandbox(settings: Settings) -> AsyncIterator[Sandbox]:
    """Open a worker's parsing processes, one for each of its concurrent jobs.

    Raises:
        StartupRefused: EMBEDDING_TOKENIZER cannot be loaded.
    """
    sandbox = Sandbox(settings)
    try:
        await sandbox.start()
        yield sandbox
    finally:
        await sandbox.stop()


class Sandbox:
    """Parses and chunks in child processes; results are passed in files."""

    def __init__(self, settings: Settings) -> None:
        self._limits = ParseLimits.from_settings(settings)
        self._tokenizer = settings.llm.embedding_tokenizer
        self._max_input_tokens = settings.llm.embedding_max_input_tokens
        self._headings_in_context = settings.ingestion.chunk_context == "headings"
        context = multiprocessing.get_context("forkserver")
        # Only the fork server imports the parsers: new children inherit them, and this process never loads them.
        context.set_forkserver_preload([FORK_SERVER])
        self._slots = [
            Slot(self._limits, context, tasks_per_process=settings.ingestion.parse_tasks_per_process)
            for _ in range(settings.jobs.ingestion_concurrency)
        ]
        # Last in, first out: prefer a warm child.
        self._free: asyncio.LifoQueue[Slot] = asyncio.LifoQueue()
        self._replacements: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start the processes and check in one of them that the tokenizer loads.

        Raises:
            StartupRefused: the tokenizer cannot be loaded.
        """
        prevent_main_reimport()
        hide_environment()
        await asyncio.gather(*(asyncio.to_thread(slot.start) for slot in self._slots))
        for slot in self._slots:
            self._free.put_nowait(slot)
        await self.run(
            f"{TOKENIZERS}:check_tokenizer", tokenizer=self._tokenizer, max_input_tokens=self._max_input_tokens
        )

    async def stop(self) -> None:
        """Kill the processes, busy or not."""
        await asyncio.gather(*self._replacements, return_exceptions=True)
        await asyncio.gather(*(asyncio.to_thread(slot.stop) for slot in self._slots))

    async def parse(
        self, source: Path, *, filename: str, mime_type: str, into: Path, report: Report = ignore_progress
    ) -> ParseOutcome:
        """Parse a file and write the result to `into`, for `read_parsed`; `report` receives the fraction done (0 to 1).

        Raises:
            DocumentRejected: the content cannot be ingested; the code says why.
            TransientFailure: no process could be started, or there is no disk space for the result.
        """
        result = await self._run_with_progress(
            f"{TASKS}:parse_file",
            report,
            source=source,
            filename=filename,
            mime_type=mime_type,
            limits=self._limits,
            into=into,
        )
        match result:
            case [int() | None as page_count, int(text_length), str(media_type)]:
                return ParseOutcome(page_count, text_length, media_type)
            case _:
                raise DocumentRejected(DocumentErrorCode.PARSER_CRASH, "the parser returned no outcome")

    async def chunk(self, parsed: Path, *, chunking: Chunking, into: Path, report: Report = ignore_progress) -> int:
        """Chunk a parsed text, write the chunks to `into` for `iterate_chunks`, and return their number.

        Raises:
            DocumentRejected: too many chunks, or the process died twice or took too long.
            TransientFailure: no process could be started, or there is no disk space for the result.
        """
        result = await self._run_with_progress(
            f"{TASKS}:chunk_file",
            report,
            parsed=parsed,
            tokenizer=self._tokenizer,
            chunking=chunking,
            max_input_tokens=self._max_input_tokens,
            headings_in_context=self._headings_in_context,
            limits=self._limits,
            into=into,
        )
        if not isinstance(result, int):
            raise DocumentRejected(DocumentErrorCode.PARSER_CRASH, "the parser returned no number of chunks")
        return result

    async def run(self, target: str, /, **arguments: object) -> object:
        """Call `module:function` in a child process; if the child dies, retry once in a new one.

        Cancelling the call kills the child.

        Raises:
            RagsvcError: as raised by the function.
            DocumentRejected: `parser_crash` after the second death, `parser_timeout` after PARSE_TIMEOUT_S.
            TransientFailure: no process could be started.
        """
        slot = await self._free.get()
        replace = True
        try:
            result = await self._attempt(slot, target, arguments)
            replace = False
        except (DocumentRejected, TransientFailure) as error:
            replace = error.work_code in {DocumentErrorCode.PARSER_TIMEOUT, DocumentErrorCode.PARSER_CRASH}
            raise
        finally:
            self._release(slot, replace=replace)
        return result

    async def _run_with_progress(self, target: str, report: Report, *, into: Path, **arguments: object) -> object:
        progress = into.with_name(f"{into.name}.progress")
        work = asyncio.create_task(self.run(target, into=into, progress=progress, **arguments))
        try:
            while not (await asyncio.wait({work}, timeout=PROGRESS_INTERVAL_S))[0]:
                await report(read_progress(progress))
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait({work})
        return work.result()

    async def _attempt(self, slot: Slot, target: str, arguments: dict[str, object]) -> object:
        failure: Exception | None = None
        for attempt in range(1, ATTEMPTS + 1):
            try:
                if isinstance(failure, TaskNotStarted) or not slot.usable:
                    await asyncio.to_thread(slot.restart)
                answer = await _wait_for_result(slot.schedule(target, arguments))
                return child.open_answer(answer)
            except TimeoutError:
                raise DocumentRejected(
                    DocumentErrorCode.PARSER_TIMEOUT, f"parsing took longer than {self._limits.timeout_s:g} s"
                ) from None
            except POOL_FAILURES as error:
                log.warning("parser_died", target=target, attempt=attempt, cause=repr(error))
                failure = error
        if isinstance(failure, ProcessExpired):
            raise DocumentRejected(DocumentErrorCode.PARSER_CRASH, _explain(failure)) from failure
        # The child never started the task, so the document is not the cause.
        raise TransientFailure(DocumentErrorCode.PARSER_CRASH, "no parsing process could be started") from failure

    def _release(self, slot: Slot, *, replace: bool) -> None:
        if not replace:
            self._free.put_nowait(slot)
            return
        task = asyncio.create_task(self._replace(slot))
        self._replacements.add(task)
        task.add_done_callback(self._replacements.discard)

    async def _replace(self, slot: Slot) -> None:
        # If the restart fails, the next task retries it and reports the error.
        with suppress(*POOL_FAILURES):
            await asyncio.to_thread(slot.restart)
        self._free.put_nowait(slot)


async def _wait_for_result(task: ProcessFuture[object]) -> object:
    """Wait for a task's result. The pool's time limit only applies once a child has started the task.

    Raises:
        TaskNotStarted: no child started it within START_TIMEOUT_S; the child was stopped, or the pool missed its death.
    """
    result = asyncio.wrap_future(task)
    try:
        await asyncio.wait({result}, timeout=START_TIMEOUT_S)
        if not result.done() and not (task.running() or task.done()):
            raise TaskNotStarted(f"no process started the task within {START_TIMEOUT_S:g} s")
        return await result
    finally:
        result.cancel()


def _explain(death: ProcessExpired) -> str:
    if death.exitcode == child.EXIT_OUT_OF_MEMORY:
        return "the parser ran out of memory on this file"
    return f"the parser died on this file (exit code {death.exitcode})"

"""Parsers that hang, crash, run out of memory or look for secrets affect only their own document."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ragsvc.domain.collections import Chunking
from ragsvc.errors.base import StartupRefused
from ragsvc.errors.work import DocumentRejected, LeaseLost, TransientFailure
from ragsvc.ingestion.sandbox import pool as sandbox_module
from ragsvc.ingestion.sandbox.pool import Sandbox, iterate_chunks, open_sandbox, read_parsed
from tests.ingestion.invariants import check_chunks
from tests.ingestion.parsing.formats.pdf_files import Entry, make_pdf

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ragsvc.llm.token_counting import TokenCounter
    from ragsvc.settings.settings import Settings

HOSTILE = "tests.ingestion.sandbox.hostile"
MEMORY_BYTES = 512 * 1024 * 1024
DEADLINE_S = 60
SECRETS = {
    "DATABASE_URL": "postgresql://secret-1",
    "REDIS_URL": "redis://secret-2",
    "S3_ACCESS_KEY_ID": "secret-3",
    "S3_SECRET_ACCESS_KEY": "secret-3",
    "OPENAI_API_KEY": "secret-4",
    "ADMIN_API_KEY": "secret-5",
    "AWS_SECRET_ACCESS_KEY": "secret-6",
    "ANYTHING_ELSE": "secret-7",
}


@pytest.fixture(scope="module")
async def sandbox(parse_settings: Settings) -> AsyncIterator[Sandbox]:
    """A sandbox with two children and little memory."""
    async with open_sandbox(parse_settings.changed({"parse_memory_bytes": MEMORY_BYTES})) as opened:
        yield opened


@pytest.fixture(scope="module")
async def short_timeout(parse_settings: Settings) -> AsyncIterator[Sandbox]:
    """A sandbox with two children and a short time limit."""
    async with open_sandbox(parse_settings.changed({"parse_timeout_s": 5})) as opened:
        yield opened


async def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        await asyncio.sleep(0.01)


def is_dead(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


async def rejection_of(work: object) -> DocumentRejected:
    assert asyncio.iscoroutine(work)
    with pytest.raises(DocumentRejected) as rejection:
        await work
    return rejection.value


class TestDocuments:
    """Documents are processed in child processes."""

    async def test_a_document_is_parsed_and_chunked_in_children(
        self, sandbox: Sandbox, tmp_path: Path, counter: TokenCounter
    ) -> None:
        source, parsed, chunked = (tmp_path / name for name in ("source", "parsed", "chunks"))
        pages = [["Chapter", *(f"Line {line} on page {page}, naïve." for line in range(40))] for page in range(30)]
        source.write_bytes(make_pdf(pages, outline=(Entry("Chapter", 0), Entry("Chapter", 20))))
        outcome = await sandbox.parse(source, filename="notes.txt", mime_type="text/plain", into=parsed)
        chunking = Chunking(max_tokens=100, overlap_tokens=10)
        count = await sandbox.chunk(parsed, chunking=chunking, into=chunked)
        text, chunks = read_parsed(parsed), list(iterate_chunks(chunked))
        assert (outcome.page_count, outcome.text_length) == (30, len(text.text))
        assert outcome.media_type == text.media_type == "application/pdf"
        assert count == len(chunks) > 10
        check_chunks(text, chunks, chunking, counter)
        assert {chunk.heading_path for chunk in chunks} == {("Chapter",)}
        assert any(len(chunk.page_spans) == 2 for chunk in chunks)

    async def test_a_format_without_pages_has_no_page_count(self, sandbox: Sandbox, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.write_bytes("naïve\r\n# text".encode())
        outcome = await sandbox.parse(source, filename="a.md", mime_type="", into=tmp_path / "parsed")
        assert (outcome.page_count, outcome.text_length, outcome.media_type) == (None, 12, "text/markdown")

    async def test_a_rejection_is_passed_to_the_parent_unchanged(self, sandbox: Sandbox, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.write_bytes(b"\x89PNG\r\n\x1a\n")
        rejection = await rejection_of(
            sandbox.parse(source, filename="a.txt", mime_type="text/plain", into=tmp_path / "parsed")
        )
        assert (rejection.work_code, rejection.detail) == ("unsupported_type", "image/png is not supported")

    async def test_the_parent_loads_no_parser(self) -> None:
        parsers = {"pypdfium2", "lxml", "docx", "selectolax", "tokenizers", "semantic_text_splitter"}
        probe = f"import sys, ragsvc.ingestion.sandbox.pool; print(sorted({parsers!r} & set(sys.modules)))"
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", probe, stdout=asyncio.subprocess.PIPE)
        output, _ = await child.communicate()
        assert output.strip() == b"[]"


class TestFailures:
    """A parser that fails does not affect others."""

    @pytest.mark.parametrize(
        ("target", "words"), [("segfault", "exit code -11"), ("abort_in_native_code", "exit code -6")]
    )
    async def test_a_parser_that_dies_twice_is_a_parser_crash(
        self, sandbox: Sandbox, tmp_path: Path, target: str, words: str
    ) -> None:
        arguments = {"log": tmp_path / "log"} if target == "segfault" else {}
        rejection, neighbour = await asyncio.gather(
            rejection_of(sandbox.run(f"{HOSTILE}:{target}", **arguments)), sandbox.run(f"{HOSTILE}:echo", value=1)
        )
        assert (rejection.work_code, neighbour) == ("parser_crash", 1)
        assert words in rejection.detail

    async def test_a_parser_that_dies_once_gets_a_new_process(self, sandbox: Sandbox, tmp_path: Path) -> None:
        log = tmp_path / "log"
        second = await sandbox.run(f"{HOSTILE}:segfault_once", log=log)
        assert int(log.read_text()) != second

    async def test_memory_is_limited(self, sandbox: Sandbox) -> None:
        rejection = await rejection_of(sandbox.run(f"{HOSTILE}:exhaust_memory"))
        assert rejection.work_code == "parser_crash"
        assert "out of memory" in rejection.detail

    async def test_a_parser_that_hangs_is_stopped_and_its_neighbour_is_not(
        self, short_timeout: Sandbox, tmp_path: Path
    ) -> None:
        started = tmp_path / "pid"
        hanging = asyncio.create_task(rejection_of(short_timeout.run(f"{HOSTILE}:hang", started=started)))
        await wait_until(lambda: started.exists() and started.read_text())
        assert await short_timeout.run(f"{HOSTILE}:echo", value="done") == "done"
        assert not hanging.done()
        async with asyncio.timeout(DEADLINE_S):
            assert (await hanging).work_code == "parser_timeout"
        await wait_until(lambda: is_dead(int(started.read_text())))

    async def test_all_slots_are_usable_after_hangs(self, short_timeout: Sandbox, tmp_path: Path) -> None:
        starts = [tmp_path / str(number) for number in range(3)]
        rejections = await asyncio.gather(
            *(rejection_of(short_timeout.run(f"{HOSTILE}:spin", started=started)) for started in starts)
        )
        assert {rejection.work_code for rejection in rejections} == {"parser_timeout"}
        results = await asyncio.gather(*(short_timeout.run(f"{HOSTILE}:echo", value=number) for number in range(5)))
        assert results == list(range(5))

    async def test_cancelling_the_work_kills_the_parser(self, sandbox: Sandbox, tmp_path: Path) -> None:
        started = tmp_path / "pid"
        work = asyncio.create_task(sandbox.run(f"{HOSTILE}:spin", started=started))
        await wait_until(lambda: started.exists() and started.read_text())
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        await wait_until(lambda: is_dead(int(started.read_text())))
        results = await asyncio.gather(*(sandbox.run(f"{HOSTILE}:echo", value=number) for number in range(4)))
        assert results == list(range(4))

    async def test_an_idle_child_that_is_killed_is_replaced(self, sandbox: Sandbox) -> None:
        for _ in range(3):
            found = await sandbox.run(f"{HOSTILE}:inspect_process")
            assert isinstance(found, dict)
            os.kill(found["pid"], signal.SIGKILL)
            await wait_until(partial(is_dead, found["pid"]))
            assert await sandbox.run(f"{HOSTILE}:echo", value=7) == 7

    async def test_a_child_that_does_not_start_its_task_is_replaced(
        self, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("ragsvc.ingestion.sandbox.pool.START_TIMEOUT_S", 3.0)
        found = await sandbox.run(f"{HOSTILE}:inspect_process")
        assert isinstance(found, dict)
        os.kill(found["pid"], signal.SIGSTOP)
        async with asyncio.timeout(DEADLINE_S):
            assert await sandbox.run(f"{HOSTILE}:echo", value=7) == 7

    async def test_results_beyond_the_file_size_limit_are_refused(
        self, parse_settings: Settings, tmp_path: Path
    ) -> None:
        async with open_sandbox(parse_settings.changed({"max_text_chars": 1})) as opened:
            rejection = await rejection_of(opened.run(f"{HOSTILE}:write_too_much", path=tmp_path / "huge"))
        assert rejection.work_code == "limit_exceeded"

    async def test_an_os_error_is_a_transient_failure(self, sandbox: Sandbox, tmp_path: Path) -> None:
        with pytest.raises(TransientFailure):
            await sandbox.parse(tmp_path / "gone", filename="a", mime_type="", into=tmp_path / "parsed")

    async def test_an_unexpected_error_is_a_crash_without_its_message(self, sandbox: Sandbox) -> None:
        rejection = await rejection_of(sandbox.run(f"{HOSTILE}:raise_unexpected"))
        assert rejection.work_code == "parser_crash"
        assert "ZeroDivisionError" in rejection.detail
        assert "secret" not in rejection.detail

    async def test_tasks_beyond_the_slots_are_queued(self, sandbox: Sandbox) -> None:
        results = await asyncio.gather(*(sandbox.run(f"{HOSTILE}:echo", value=number) for number in range(60)))
        assert results == list(range(60))


class TestConfinement:
    """What a child process can access."""

    async def test_a_child_has_no_credentials(self, tokenizer: str) -> None:
        probe = (
            "import asyncio, os, sys\n"
            "from ragsvc.ingestion.sandbox.pool import open_sandbox\n"
            "from ragsvc.settings.settings import Settings\n"
            "async def main():\n"
            "    async with open_sandbox(Settings.of({'embedding_tokenizer': sys.argv[1]})) as sandbox:\n"
            "        print(await sandbox.run('tests.ingestion.sandbox.hostile:inspect_process'))\n"
            "        print(await sandbox.run('tests.ingestion.sandbox.hostile:inspect_ancestors'))\n"
            "        print(os.environ['ADMIN_API_KEY'] == 'secret-5', file=sys.stderr)\n"
            "if __name__ == '__main__':\n"
            "    asyncio.run(main())\n"
        )
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            probe,
            tokenizer,
            env={**os.environ, **SECRETS, "PYTHONPATH": str(Path(__file__).parents[3])},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await child.communicate()
        assert (child.returncode, errors) == (0, b"True\n")
        assert output.count(b"'environ': ") == 3
        assert b"PATH" in output
        assert b"secret-" not in output

    async def test_a_child_is_confined_and_has_the_parsers_loaded(self, sandbox: Sandbox) -> None:
        found = await sandbox.run(f"{HOSTILE}:inspect_process")
        assert isinstance(found, dict)
        assert found["sockets"] == []
        assert found["core"] == [0, 0]
        assert found["files"] == [64, 64]
        assert found["address_space"] == [MEMORY_BYTES, MEMORY_BYTES]
        assert found["parsers_loaded"] is True
        assert "NoNewPrivs:\t1" in found["status"]
        # Most of the address space is left for the document.
        assert found["mapped_bytes"] < 256 * 1024 * 1024

    async def test_children_die_with_their_worker(self, tokenizer: str, tmp_path: Path) -> None:
        started = tmp_path / "pid"
        worker = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.ingestion.sandbox.orphan_maker",
            tokenizer,
            str(started),
            cwd=Path(__file__).parents[3],
        )
        await wait_until(lambda: started.exists() and started.read_text())
        pid = int(started.read_text())
        assert not is_dead(pid)
        worker.kill()
        await worker.wait()
        await wait_until(lambda: is_dead(pid))


async def test_an_unknown_tokenizer_prevents_the_start(parse_settings: Settings) -> None:
    with pytest.raises(StartupRefused, match="EMBEDDING_TOKENIZER"):
        async with open_sandbox(parse_settings.changed({"embedding_tokenizer": "/no/such.json"})):
            pass


class TestProgress:
    """The progress of long documents is reported."""

    async def test_progress_of_pages_and_chunks_is_reported(
        self, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Short enough that the first report comes before the last page on any machine.
        monkeypatch.setattr(sandbox_module, "PROGRESS_INTERVAL_S", 0.01)
        source, parsed, chunked = (tmp_path / name for name in ("source", "parsed", "chunks"))
        source.write_bytes(make_pdf([[f"Line {line} of page {page}" for line in range(40)] for page in range(1500)]))
        reported: dict[str, list[float]] = {"parse": [], "chunk": []}

        def recorder(kind: str) -> Callable[[float], Awaitable[None]]:
            async def report(fraction: float) -> None:
                reported[kind].append(fraction)

            return report

        await sandbox.parse(source, filename="a.pdf", mime_type="", into=parsed, report=recorder("parse"))
        chunking = Chunking(max_tokens=100, overlap_tokens=10)
        await sandbox.chunk(parsed, chunking=chunking, into=chunked, report=recorder("chunk"))
        for fractions in reported.values():
            assert fractions == sorted(fractions)
            assert 0 <= fractions[0] < fractions[-1] <= 1

    async def test_losing_the_lease_stops_the_parser(self, sandbox: Sandbox, tmp_path: Path) -> None:
        started = tmp_path / "pid"

        async def lose_lease(_: float) -> None:
            if started.exists() and started.read_text():
                raise LeaseLost

        with pytest.raises(LeaseLost):
            await sandbox._run_with_progress(f"{HOSTILE}:spin_with_progress", lose_lease, into=started)
        await wait_until(lambda: is_dead(int(started.read_text())))

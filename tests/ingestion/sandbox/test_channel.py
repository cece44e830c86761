"""What a parsing process returns is data, and the process has no network."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import orjson
import pytest

from ragsvc.errors.base import RagsvcError
from ragsvc.errors.work import DocumentRejected
from ragsvc.ingestion.hashing import content_hash, embedding_input_hash
from ragsvc.ingestion.sandbox.confinement import ARCHITECTURES
from ragsvc.ingestion.sandbox.pool import Sandbox, iterate_chunks, open_sandbox, read_parsed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ragsvc.settings.settings import Settings

HOSTILE = "tests.ingestion.sandbox.hostile"


@pytest.fixture(scope="module")
async def sandbox(parse_settings: Settings) -> AsyncIterator[Sandbox]:
    async with open_sandbox(parse_settings.changed({"ingestion_concurrency": 1, "parse_timeout_s": 10})) as opened:
        yield opened


@pytest.mark.parametrize("target", ["return_trap", "send_trap"])
async def test_no_object_of_a_parsing_process_is_unpickled(sandbox: Sandbox, tmp_path: Path, target: str) -> None:
    trap = tmp_path / "trap"
    with pytest.raises(RagsvcError):
        await sandbox.run(f"{HOSTILE}:{target}", path=trap)
    assert not trap.exists()
    assert await sandbox.run(f"{HOSTILE}:echo", value=[1, "two", None]) == [1, "two", None]


@pytest.mark.skipif(platform.machine() not in ARCHITECTURES, reason="no filter for this architecture")
async def test_a_parsing_process_has_no_sockets(sandbox: Sandbox) -> None:
    assert await sandbox.run(f"{HOSTILE}:open_socket") == "EPERM"


@pytest.mark.parametrize("read", [read_parsed, lambda path: list(iterate_chunks(path))], ids=["parsed", "chunks"])
async def test_links_and_pipes_are_not_read_as_results(sandbox: Sandbox, tmp_path: Path, read: object) -> None:
    assert callable(read)
    secret = tmp_path / "of-another-document"
    secret.write_text("{}")
    await sandbox.run(f"{HOSTILE}:link_result", into=tmp_path / "link", target=secret)
    await sandbox.run(f"{HOSTILE}:write_pipe", into=tmp_path / "pipe")
    for name in ("link", "pipe", "missing"):
        with pytest.raises(DocumentRejected, match="unreadable result"):
            read(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"no json", b"[]", b"{}", b'{"text": 1}', b"null"])
def test_results_of_another_form_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "result"
    path.write_bytes(content + b"\n")
    with pytest.raises(DocumentRejected, match="unreadable result"):
        read_parsed(path)
    with pytest.raises(DocumentRejected, match="unreadable result"):
        list(iterate_chunks(path))


def test_a_process_cannot_choose_the_key_of_a_cached_vector(tmp_path: Path) -> None:
    row = {
        "ordinal": 0,
        "text": "Kettles boil water.",
        "content_hash": "00",
        "embedding_input_hash": "00",
        "char_start": 0,
        "char_end": 19,
        "page_spans": [],
        "heading_path": [],
        "table_header": "",
        "token_count": 4,
        "context": "",
        "context_token_count": 0,
    }
    (tmp_path / "chunks").write_bytes(orjson.dumps(row) + b"\n")
    (chunk,) = iterate_chunks(tmp_path / "chunks")
    assert chunk.content_hash == content_hash(chunk.text)
    assert chunk.embedding_input_hash == embedding_input_hash(chunk.text)


async def test_each_task_can_have_a_process_of_its_own(parse_settings: Settings) -> None:
    changed = parse_settings.changed({"ingestion_concurrency": 1, "parse_tasks_per_process": 1})
    async with open_sandbox(changed) as sandbox:
        found = [await sandbox.run(f"{HOSTILE}:inspect_process") for _ in range(2)]
    assert found[0]["pid"] != found[1]["pid"]  # type: ignore[index]

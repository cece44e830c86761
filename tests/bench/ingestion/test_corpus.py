"""Ingests a folder of real files with a real worker: each becomes ready, or fails with an expected code.

`CORPUS=/some/folder make test-chaos ARGS=tests/bench/ingestion`. For a corpus of thousands of files,
`apt-get download` Debian's documentation packages, unpack them with `dpkg-deb -x`, and convert some of them with
`soffice --headless --convert-to docx`. If poppler's `pdftotext` is installed, the pages of 20 PDFs are checked too.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ragsvc.db import chunks
from ragsvc.domain.documents import DocumentStatus
from tests.support.servers.worker_trees import MIB, open_worker_tree

if TYPE_CHECKING:
    from ragsvc.domain.chunks import StoredChunk
    from ragsvc.domain.documents import Document
    from ragsvc.settings.settings import Settings
    from tests.bench.table import BenchTable
    from tests.support.servers.worker_trees import WorkerTree

CORPUS = os.environ.get("CORPUS", "")
TIMEOUT_S = 3600.0
FITTING = frozenset({"ready", "unsupported_type", "no_text", "encrypted", "corrupt", "limit_exceeded", "encoding"})
CHECKED_PDFS = 20
CHECKED_CHUNKS = 5
WORD = re.compile(r"[^\W_]{4,}")


@pytest.mark.chaos
@pytest.mark.skipif(not CORPUS, reason="CORPUS is not set to a folder of files")
async def test_every_file_of_a_corpus_ends_with_an_expected_code(settings: Settings, bench_table: BenchTable) -> None:
    paths = list_files()
    async with open_worker_tree(settings) as tree:
        started = time.perf_counter()
        documents = await tree.ingest(((path.name, path.read_bytes()) for path in paths), timeout_s=TIMEOUT_S)
        seconds = time.perf_counter() - started
        wrong = await check_pages(tree, list(zip(paths, documents, strict=True)))
    ended = [(path, code_of(document), document) for path, document in zip(paths, documents, strict=True)]
    codes = Counter((path.suffix.lower() or "(none)", code) for path, code, _ in ended)
    for (suffix, code), count in sorted(codes.items()):
        bench_table.add(f"{suffix} {code}", count, "files")
    bench_table.add("files per second", len(paths) / seconds, "files/s")
    bench_table.add("source per second", sum(path.stat().st_size for path in paths) / MIB / seconds, "MiB/s")
    bench_table.add("chunks", sum(document.chunk_count for document in documents), "")
    bench_table.add("peak of the worker's tree", tree.peak_bytes / MIB, "MiB")
    unfit = [f"{path.name}: {document.error}" for path, code, document in ended if code not in FITTING]
    assert not unfit
    assert not wrong


def list_files() -> list[Path]:
    """Return the files of the corpus."""
    return sorted(path for path in Path(CORPUS).rglob("*") if path.is_file() and path.stat().st_size)


def code_of(document: Document) -> str:
    """Return `ready` or the error code."""
    return document.error.code if document.error else str(document.status)


async def check_pages(tree: WorkerTree, corpus: list[tuple[Path, Document]]) -> list[str]:
    """Return the chunks whose words poppler does not find on their pages."""
    pdfs = [
        (path, document)
        for path, document in corpus
        if path.suffix.lower() == ".pdf" and document.status is DocumentStatus.READY
    ]
    wrong: list[str] = []
    for path, document in pdfs[:: max(len(pdfs) // CHECKED_PDFS, 1)][:CHECKED_PDFS]:
        for chunk in await select_some(tree, document):
            printed = await read_printed(path, chunk)
            words = WORD.findall(chunk.text.casefold())
            missing = sum(word not in printed for word in words)
            # The two programs sometimes join hyphenated words and ligatures differently.
            if missing > max(len(words) * 0.15, 2):
                wrong.append(
                    f"{path.name}, pages {chunk.page_first}-{chunk.page_last}: {missing} of {len(words)} words"
                )
    return wrong


async def select_some(tree: WorkerTree, document: Document) -> list[StoredChunk]:
    """Return a few chunks spread over the document."""
    async with tree.resources.pool.acquire() as conn:
        found = await chunks.select_chunks(conn, document.workspace_id, document.id, limit=document.chunk_count)
    return found[:: max(len(found) // CHECKED_CHUNKS, 1)][:CHECKED_CHUNKS]


async def read_printed(path: Path, chunk: StoredChunk) -> str:
    """Return poppler's text of the chunk's pages, with words rejoined across line ends."""
    program = shutil.which("pdftotext")
    assert program, "install poppler-utils: the pages cannot be checked"
    process = await asyncio.create_subprocess_exec(
        *(program, "-f", str(chunk.page_first), "-l", str(chunk.page_last), str(path), "-"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    output, _ = await process.communicate()
    return re.sub(r"-\n|[\u00ad\u2010]\n?", "", output.decode(errors="replace")).casefold()

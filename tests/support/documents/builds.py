"""Ready documents for tests that need no parser: the chunks are made here, and the real build writes them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ragsvc.db import files
from ragsvc.domain.chunks import Chunk
from ragsvc.domain.jobs import IngestPayload
from ragsvc.errors.work import LeaseLost
from ragsvc.ingestion.builds import Build
from ragsvc.jobs import lifecycle
from ragsvc.jobs.lease import Lease
from tests.support.documents.documents import accept, job_of, reload

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from numpy.typing import NDArray

    from ragsvc.domain.documents import Document, File
    from ragsvc.domain.jobs import Job
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources


@dataclass(frozen=True, slots=True)
class Writing:
    """A running job, the file that it reads, and the build that it writes."""

    job: Job
    file: File
    build: Build


SENTENCES = ("Kettles boil water.", "Descale them every three months.", "Use citric acid.")


def make_chunks(sentences: Sequence[str] = SENTENCES) -> list[Chunk]:
    """Return one chunk per sentence, with the offsets of the sentences joined by newlines."""
    chunks, start = [], 0
    for ordinal, sentence in enumerate(sentences):
        digest = hashlib.sha256(sentence.encode()).digest()
        chunks.append(Chunk(ordinal, sentence, digest, digest, start, start + len(sentence), (), ("Kettles",), 5))
        start += len(sentence) + 1
    return chunks


def make_vectors(chunks: Sequence[Chunk], dimensions: int) -> NDArray[np.float32]:
    """Return a unit vector per chunk, shape (n, dimensions); equal texts have equal vectors."""
    seeds = [int.from_bytes(chunk.content_hash[:4]) for chunk in chunks]
    vectors = np.stack([np.random.default_rng(seed).normal(size=dimensions) for seed in seeds])
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


async def ready_document(
    resources: Resources,
    workspace: Workspace,
    *,
    sentences: Sequence[str] = SENTENCES,
    collection_id: UUID | None = None,
) -> Document:
    """Return a ready document with these sentences as its text and chunks."""
    text = "\n".join(sentences)
    document = await accept(resources, workspace, text.encode(), filename="kettles.txt", collection_id=collection_id)
    await build(resources, document, sentences=sentences)
    return await reload(resources, document)


async def build(resources: Resources, document: Document, *, sentences: Sequence[str] = SENTENCES) -> None:
    """Run the document's queued ingestion job."""
    await finish(await begin(resources, document, sentences=sentences), sentences=sentences)


async def begin(resources: Resources, document: Document, *, sentences: Sequence[str] = SENTENCES) -> Writing:
    """Claim the document's queued ingestion job and write its text and chunks, without making them visible."""
    queued = await job_of(resources, document)
    job = await lifecycle.claim(resources.pool, queued.id, queue=queued.queue, owner="test", lease_s=60)
    assert job is not None
    return await write_unseen(resources, document, job, sentences=sentences)


async def write_unseen(
    resources: Resources, document: Document, job: Job, *, sentences: Sequence[str] | None = None
) -> Writing:
    """Write the text and chunks of a running job; the default sentences are those of `sentences_of`."""
    async with resources.pool.acquire() as conn:
        file = await files.select_file(conn, document.workspace_id, IngestPayload.from_json(job.payload).file_id)
    if file is None:
        raise LeaseLost("the file is released")
    sentences = sentences or sentences_of(file.filename)
    chunks = make_chunks(sentences)
    unseen = Build(resources, Lease(resources.pool, job, resources.settings), document)
    await unseen.write_text("\n".join(sentences))
    await unseen.write_chunks(chunks, make_vectors(chunks, resources.space.dimensions))
    return Writing(job, file, unseen)


def sentences_of(filename: str) -> tuple[str, ...]:
    """Return the sentences of a file, derived from its name."""
    return (f"{filename} begins.", f"{filename} ends.")


async def finish(writing: Writing, *, sentences: Sequence[str] = SENTENCES) -> None:
    """Make the written build the document's active one."""
    chunks = make_chunks(sentences)
    token_count = sum(chunk.token_count for chunk in chunks)
    await writing.build.finalize(writing.file, chunk_count=len(chunks), token_count=token_count)

"""Ingests one document in stages that are safe to repeat: download, parse, chunk, embed, finalize."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from ragsvc.db import collections, documents, files, workspaces
from ragsvc.domain.collections import Chunking
from ragsvc.domain.documents import Stage
from ragsvc.domain.jobs import IngestPayload
from ragsvc.errors.work import SubjectGone
from ragsvc.ingestion.builds import Build
from ragsvc.ingestion.embedding import embed_chunks
from ragsvc.ingestion.sandbox.pool import iterate_chunks, read_parsed
from ragsvc.ingestion.source import download
from ragsvc.tasks import open_task_group

if TYPE_CHECKING:
    from ragsvc.domain.documents import Document, DocumentWarning, File
    from ragsvc.ingestion.sandbox.pool import Sandbox
    from ragsvc.jobs.lease import Lease
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Task:
    """The rows that the job refers to, read once at its start."""

    document: Document
    file: File
    bucket: str
    chunking: Chunking


async def ingest(resources: Resources, lease: Lease, *, sandbox: Sandbox, scratch: Path) -> None:
    """Ingest the job's document until it is `ready`; intermediate files go to a temporary folder under `scratch`.

    Raises:
        LeaseLost: another worker has the job.
        SubjectGone: the document is deleted or being deleted.
        DocumentRejected: the content cannot be ingested; the code says why.
        ProviderRejected, TransientFailure, OutageFailure: the store or the model failed.
    """
    task = await _load(resources, lease)
    build = Build(resources, lease, task.document)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        source, parsed, chunked = (Path(folder) / name for name in ("source", "parsed", "chunks"))
        await lease.report(Stage.DOWNLOADING)
        sha256 = await download(
            resources.storage,
            task.bucket,
            task.file,
            into=source,
            report=lambda fraction: lease.report(Stage.DOWNLOADING, fraction),
        )
        if task.file.sha256 is None:
            async with resources.pool.acquire() as conn:
                await files.update_sha256(conn, lease.job.workspace_id, task.file.id, sha256=sha256)
        await lease.report(Stage.PARSING)
        await sandbox.parse(
            source,
            filename=task.file.filename,
            mime_type=task.file.mime_type,
            into=parsed,
            report=lambda fraction: lease.report(Stage.PARSING, fraction),
        )
        await lease.report(Stage.CHUNKING)
        chunk_count = await sandbox.chunk(
            parsed,
            chunking=task.chunking,
            into=chunked,
            report=lambda fraction: lease.report(Stage.CHUNKING, fraction),
        )
        warnings = await _write_text(build, parsed)
        token_count = await _embed_and_write(resources, lease, build, chunked, chunk_count=chunk_count)
    await lease.report(Stage.FINALIZING)
    version = await build.finalize(task.file, chunk_count=chunk_count, token_count=token_count, warnings=warnings)
    log.info("document_ingested", document_id=task.document.id, version=version, chunks=chunk_count)


async def _write_text(build: Build, parsed: Path) -> tuple[DocumentWarning, ...]:
    """Store the canonical text and return the warnings.

    A separate function, so that the text is freed before embedding, which can take minutes.
    """
    text = await asyncio.to_thread(read_parsed, parsed)
    await build.write_text(text.text)
    return text.warnings


async def _load(resources: Resources, lease: Lease) -> _Task:
    job = lease.job
    payload = IngestPayload.from_json(job.payload)
    async with resources.pool.acquire() as conn:
        document = await documents.select_document(conn, job.workspace_id, job.subject_id)
        file = await files.select_file(conn, job.workspace_id, payload.file_id)
        workspace = await workspaces.select_workspace(conn, job.workspace_id)
        collection = (
            await collections.select_collection(conn, job.workspace_id, document.collection_id) if document else None
        )
    if document is None or file is None or workspace is None or collection is None:
        raise SubjectGone("the document is gone")
    chunking = payload.chunking or collection.chunking or _default_chunking(resources.settings)
    return _Task(document, file, workspace.bucket, chunking)


async def _embed_and_write(resources: Resources, lease: Lease, build: Build, chunked: Path, *, chunk_count: int) -> int:
    """Embed and store all chunks, and return their total token count.

    Each window of chunks is embedded while the previous one is written, so two windows are in memory. A window is as
    large as all concurrent embedding calls together.
    """
    settings = resources.settings
    window_size = settings.llm.embedding_batch_size * settings.llm.embedding_concurrency
    embedded = token_count = 0

    async def report(count: int) -> None:
        nonlocal embedded
        embedded += count
        await lease.report(Stage.EMBEDDING, min(embedded / max(chunk_count, 1), 1))

    await lease.report(Stage.EMBEDDING)
    chunks = iterate_chunks(chunked)
    writing: asyncio.Task[None] | None = None
    async with open_task_group() as group:
        while window := list(islice(chunks, window_size)):
            vectors = await embed_chunks(resources, lease.job.workspace_id, window, report=report)
            if writing is not None:
                await writing
            writing = group.create_task(build.write_chunks(window, vectors))
            token_count += sum(chunk.token_count for chunk in window)
    return token_count


def _default_chunking(settings: Settings) -> Chunking:
    return Chunking(settings.ingestion.chunk_max_tokens, settings.ingestion.chunk_overlap_tokens)

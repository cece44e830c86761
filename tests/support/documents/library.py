"""Documents for tests of search and chat: written directly to the database, one chunk for each paragraph."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.db import canonical_text, chunks, collections, documents, files
from ragsvc.domain.chunks import Chunk, PageSpan
from ragsvc.domain.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ragsvc.resources import Resources


@dataclass(frozen=True, slots=True)
class Library:
    """A workspace to which documents can be added."""

    resources: Resources
    workspace_id: UUID

    async def default_collection(self) -> UUID:
        """Return the workspace's default collection."""
        async with self.resources.pool.acquire() as conn:
            collection = await collections.select_default_collection(conn, self.workspace_id)
        assert collection is not None
        return collection.id

    async def add_collection(self, name: str) -> UUID:
        """Add a collection and return its id."""
        async with self.resources.pool.acquire() as conn:
            collection = await collections.insert_collection(conn, self.workspace_id, new_id(), name=name)
        return collection.id

    async def add(
        self,
        *paragraphs: str,
        filename: str = "notes.md",
        collection_id: UUID | None = None,
        attributes: dict[str, object] | None = None,
        heading_path: Sequence[str] = (),
        table_header: str = "",
        has_pages: bool = False,
    ) -> UUID:
        """Add a ready document; with `has_pages`, every paragraph is a page, numbered from 1."""
        document_id = new_id()
        file_id = new_id()
        async with self.resources.pool.acquire() as conn:
            await files.insert_file(
                conn,
                self.workspace_id,
                file_id,
                upload_id=new_id(),
                object_key=f"objects/{file_id}",
                filename=filename,
                mime_type="text/markdown",
                size_bytes=1,
                sha256=hashlib.sha256(file_id.bytes).digest(),
                etag="etag",
            )
            await documents.insert_document(
                conn,
                self.workspace_id,
                document_id,
                collection_id=collection_id or await self.default_collection(),
                file_id=file_id,
                attributes=attributes or {},
            )
        new_chunks = cut(paragraphs, heading_path=heading_path, table_header=table_header, has_pages=has_pages)
        await self.build(document_id, paragraphs, new_chunks)
        return document_id

    async def build(self, document_id: UUID, paragraphs: Sequence[str], new_chunks: Sequence[Chunk]) -> None:
        """Write a build of the document and make it the active one."""
        build_id = new_id()
        vectors, _usage = await self.resources.llm.embed([chunk.text for chunk in new_chunks], token_count=0)
        async with self.resources.pool.acquire() as conn, conn.transaction():
            document = await documents.select_document(conn, self.workspace_id, document_id)
            assert document is not None
            await canonical_text.insert_text(
                conn, self.workspace_id, document_id, build_id=build_id, content="\n\n".join(paragraphs)
            )
            await chunks.insert_chunks(
                conn,
                self.workspace_id,
                document_id,
                collection_id=document.collection_id,
                build_id=build_id,
                chunks=new_chunks,
                vectors=vectors,
                space=self.resources.space,
                text_search_config=self.resources.settings.answering.text_search_config,
            )
            version = await documents.update_active_build(
                conn,
                self.workspace_id,
                document_id,
                build_id=build_id,
                file_id=document.file_id,
                chunk_count=len(new_chunks),
                token_count=sum(chunk.token_count for chunk in new_chunks),
                space_id=self.resources.space.id,
            )
            assert version is not None
            await canonical_text.update_text_version(
                conn, self.workspace_id, document_id, build_id=build_id, version=version
            )

    async def begin_deleting(self, document_id: UUID) -> None:
        """Mark the document as being deleted, as the acknowledgement of a deletion does."""
        async with self.resources.pool.acquire() as conn:
            await documents.update_deleting(conn, self.workspace_id, document_id, deletion_id=new_id())


def cut(
    paragraphs: Sequence[str], *, heading_path: Sequence[str] = (), table_header: str = "", has_pages: bool = False
) -> list[Chunk]:
    """Return each paragraph as a chunk of their joined text."""
    new_chunks = []
    start = 0
    for ordinal, text in enumerate(paragraphs):
        end = start + len(text)
        digest = hashlib.sha256(text.encode()).digest()
        new_chunks.append(
            Chunk(
                ordinal=ordinal,
                text=text,
                content_hash=digest,
                embedding_input_hash=digest,
                char_start=start,
                char_end=end,
                page_spans=(PageSpan(ordinal + 1, start, end),) if has_pages else (),
                heading_path=tuple(heading_path),
                table_header=table_header,
                token_count=len(text.split()),
            )
        )
        start = end + len("\n\n")
    return new_chunks

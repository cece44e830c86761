"""Settings of ingestion."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ragsvc.settings.groups.base import MIB, Count, Group, Seconds, SizeBytes


class IngestionGroup(Group):
    """Chunking and parsing limits."""

    chunk_partitions: Annotated[int, Field(ge=1, le=256)] = Field(
        16, description="Hash partitions of the chunk tables; fixed by the first migration."
    )
    chunk_max_tokens: Annotated[int, Field(ge=16, le=4096)] = Field(
        512, description="Default maximum size of a chunk, in tokens."
    )
    chunk_overlap_tokens: Annotated[int, Field(ge=0, le=2048)] = Field(
        64, description="Default overlap of adjacent chunks, in tokens."
    )
    chunk_context: Literal["none", "headings"] = Field(
        "headings",
        description="`headings`: a chunk is embedded together with the headings above it; its text is unchanged."
        " `none`: without them.",
    )
    max_pages: Count = Field(20_000, description="Maximum pages or slides per document.")
    max_cells: Count = Field(5_000_000, description="Maximum cells per spreadsheet or table.")
    max_text_chars: Count = Field(50_000_000, description="Maximum characters of text per document.")
    max_expanded_bytes: SizeBytes = Field(
        512 * MIB, description="Maximum uncompressed size of a zip-based document, in bytes."
    )
    max_chunks: Count = Field(200_000, description="Maximum chunks per document.")
    parse_timeout_s: Seconds = Field(600.0, description="Longest time to parse a document, in seconds.")
    parse_tasks_per_process: Count = Field(
        20,
        description="Tasks after which a parsing process is replaced. 1: each parse and each chunking of a document"
        " gets a process of its own, which never sees another document.",
    )
    parse_memory_bytes: SizeBytes = Field(
        2048 * MIB, description="Maximum address space of a parsing process, in bytes."
    )

"""The two tasks of a parsing process: parsing a file and chunking a parsed text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.ingestion.chunking.chunker import iterate_chunks_of
from ragsvc.ingestion.parsing.detection.sniffing import SourceFile
from ragsvc.ingestion.parsing.progress import Progress
from ragsvc.ingestion.parsing.registry import parse
from ragsvc.ingestion.sandbox.results import read_parsed, write_chunks, write_parsed
from ragsvc.llm.token_counting import load_counter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ragsvc.domain.chunks import Chunk
    from ragsvc.domain.collections import Chunking
    from ragsvc.ingestion.parsing.limits import ParseLimits


def parse_file(
    source: Path, *, filename: str, mime_type: str, limits: ParseLimits, into: Path, progress: Path
) -> tuple[int | None, int, str]:
    """Parse a file, write its text and anchors to `into`, and return (pages or None, characters, media type).

    Raises:
        DocumentRejected: the content cannot be ingested.
    """
    parsed = parse(SourceFile(path=source, filename=filename, mime_type=mime_type, progress=Progress(progress)), limits)
    write_parsed(parsed, into)
    return len(parsed.pages) or None, len(parsed.text), parsed.media_type


def chunk_file(
    parsed: Path,
    *,
    tokenizer: str,
    chunking: Chunking,
    max_input_tokens: int,
    headings_in_context: bool,
    limits: ParseLimits,
    into: Path,
    progress: Path,
) -> int:
    """Chunk a parsed text, write the chunks to `into`, and return their number.

    Raises:
        DocumentRejected: there are too many chunks.
    """
    text = read_parsed(parsed)
    chunks = iterate_chunks_of(
        text,
        load_counter(tokenizer),
        chunking=chunking,
        max_input_tokens=max_input_tokens,
        max_chunks=limits.max_chunks,
        headings_in_context=headings_in_context,
    )
    return write_chunks(_with_progress(chunks, len(text.text), Progress(progress)), into)


def _with_progress(chunks: Iterator[Chunk], length: int, progress: Progress) -> Iterator[Chunk]:
    for chunk in chunks:
        progress.report(chunk.char_end, length)
        yield chunk

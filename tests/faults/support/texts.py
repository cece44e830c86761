"""Texts for the fault tests, and their expected chunks, computed without a worker."""

from __future__ import annotations

from functools import lru_cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ragsvc.domain.collections import Chunking

if TYPE_CHECKING:
    from ragsvc.settings.settings import Settings

_numbers = count(1)


def make_text(*, sections: int = 3) -> bytes:
    """Return a unique text, none of whose vectors is cached; each section becomes one chunk."""
    number = next(_numbers)
    parts = (
        f"# Station {number}-{part}\n\nStation {number}-{part} lies at {300 + number * 7 + part} metres.\n"
        for part in range(sections)
    )
    return "\n".join(parts).encode()


@lru_cache(maxsize=2048)
def expected_chunks(content: bytes, *, tokenizer: str, max_tokens: int, overlap_tokens: int) -> tuple[bytes, ...]:
    """Return the hashes of a Markdown document's chunks in order."""
    # Imported here because the parsers are slow to import and few tests need them.
    from ragsvc.ingestion.chunking.chunker import iterate_chunks_of  # noqa: PLC0415
    from ragsvc.ingestion.parsing.detection.sniffing import SourceFile  # noqa: PLC0415
    from ragsvc.ingestion.parsing.limits import ParseLimits  # noqa: PLC0415
    from ragsvc.ingestion.parsing.registry import parse  # noqa: PLC0415
    from ragsvc.llm.token_counting import load_counter  # noqa: PLC0415

    limits = ParseLimits(**dict.fromkeys(ParseLimits.__dataclass_fields__, 10**9))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "source"
        path.write_bytes(content)
        parsed = parse(SourceFile(path=path, filename="text.md", mime_type="text/markdown"), limits)
    chunks = iterate_chunks_of(
        parsed,
        load_counter(tokenizer),
        chunking=Chunking(max_tokens, overlap_tokens),
        max_input_tokens=max_tokens,
        max_chunks=10**6,
    )
    return tuple(chunk.content_hash for chunk in chunks)


def chunks_of(content: bytes, settings: Settings) -> list[bytes]:
    """Return the hashes of a document's chunks under these settings."""
    found = expected_chunks(
        content,
        tokenizer=settings.llm.embedding_tokenizer,
        max_tokens=settings.ingestion.chunk_max_tokens,
        overlap_tokens=settings.ingestion.chunk_overlap_tokens,
    )
    return list(found)

"""The resource limits of parsing one document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ragsvc.settings.settings import Settings


@dataclass(frozen=True, slots=True)
class ParseLimits:
    """The limits of one document and of the process that parses it. Small, since it is pickled with every task."""

    max_pages: int
    max_cells: int
    max_text_chars: int
    max_expanded_bytes: int
    max_chunks: int
    timeout_s: float
    memory_bytes: int

    @classmethod
    def from_settings(cls, settings: Settings) -> ParseLimits:
        """Return the limits from the settings."""
        return cls(
            max_pages=settings.ingestion.max_pages,
            max_cells=settings.ingestion.max_cells,
            max_text_chars=settings.ingestion.max_text_chars,
            max_expanded_bytes=settings.ingestion.max_expanded_bytes,
            max_chunks=settings.ingestion.max_chunks,
            timeout_s=settings.ingestion.parse_timeout_s,
            memory_bytes=settings.ingestion.parse_memory_bytes,
        )

    @property
    def max_source_bytes(self) -> int:
        """The largest file that is read as text: no encoding in use takes more than four bytes per character."""
        return 4 * self.max_text_chars

"""Search modes and results."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.domain.chunks import PageSpan


class SearchMode(StrEnum):
    """The indexes that a search uses."""

    HYBRID = "hybrid"
    DENSE = "dense"
    LEXICAL = "lexical"


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A chunk that is equal to a hit, in the same or another document."""

    chunk_id: UUID
    document_id: UUID
    filename: str


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A chunk found by a search.

    Hits are sorted by `score`; the other scores are those of the two indexes and of the reranker. `duplicates` are
    equal chunks, which have no hits of their own.
    """

    chunk_id: UUID
    document_id: UUID
    build_id: UUID
    filename: str
    version: int
    ordinal: int
    score: float
    dense_score: float | None
    lexical_score: float | None
    text: str
    page_first: int | None
    page_last: int | None
    page_spans: tuple[PageSpan, ...]
    heading_path: tuple[str, ...]
    char_start: int
    char_end: int
    token_count: int
    attributes: dict[str, object]
    duplicates: tuple[Duplicate, ...] = ()
    reranked_score: float | None = None


@dataclass(frozen=True, slots=True)
class FoundHits:
    """The hits of a search, best first, and the indexes that could not be used (`dense`, without its model)."""

    hits: list[SearchHit]
    degraded: tuple[SearchMode, ...] = ()

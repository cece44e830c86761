"""Search hits for tests that need no database."""

from __future__ import annotations

from ragsvc.domain.chunks import PageSpan
from ragsvc.domain.ids import new_id
from ragsvc.domain.search import SearchHit

TEXT = "Refunds are easy. A refund takes 14 days. Ask the desk."


def make_hit(text: str = TEXT, *, start: int = 100) -> SearchHit:
    """Return a hit whose text begins at `start` in the canonical text and covers two pages."""
    return SearchHit(
        chunk_id=new_id(),
        document_id=new_id(),
        build_id=new_id(),
        filename="handbook.pdf",
        version=3,
        ordinal=0,
        score=1.0,
        dense_score=0.9,
        lexical_score=None,
        text=text,
        page_first=4,
        page_last=5,
        page_spans=(PageSpan(4, start, start + 18), PageSpan(5, start + 18, start + len(text))),
        heading_path=("Refunds",),
        char_start=start,
        char_end=start + len(text),
        token_count=12,
        attributes={},
    )

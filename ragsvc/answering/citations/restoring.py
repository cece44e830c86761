"""Makes the citations of an answer again, whose own process has died, from what Postgres knows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ragsvc.answering.citations.parser import CitationParser
from ragsvc.answering.citations.support import find_passage
from ragsvc.answering.citations.verification import verify_citation
from ragsvc.db import canonical_text
from ragsvc.domain.chat.citations import Citation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ragsvc.answering.citations.parser import Marker
    from ragsvc.domain.chat.citations import Source
    from ragsvc.resources import Resources

# No sentence that is quoted is longer.
MAX_QUOTE_CHARS = 4096
LARGEST_INTEGER = 2**31 - 1


def read_markers(text: str) -> list[Marker]:
    """Return the markers of an answer, in the order of its citations."""
    parser = CitationParser()
    return [*parser.feed(text), *parser.finish()]


async def restore_citation(
    resources: Resources, workspace_id: UUID, marker: Marker, *, claimed: Citation, sources: Sequence[Source]
) -> Citation:
    """Return the citation of a marker, for which `claimed` names a span that is not trusted.

    Only the span is taken from it. The document is that of the source in Postgres, the quote is what the document says
    there, and support and verification are computed again.
    """
    unknown = Citation(n=marker.n, message_offset=marker.offset)
    source = next((source for source in sources if source.n == marker.n), None)
    version, start, end = claimed.version, claimed.char_start, claimed.char_end
    if source is None or version is None or start is None or end is None or not _is_span(version, start, end):
        return unknown
    async with resources.pool.acquire() as conn:
        found = await canonical_text.select_text_slice(
            conn, workspace_id, source.document_id, version=version, start=start, end=end
        )
    passage = await asyncio.to_thread(find_passage, marker.claim, found.text) if found is not None else None
    if found is None or passage is None:
        return unknown
    citation = Citation(
        n=marker.n,
        message_offset=marker.offset,
        document_id=source.document_id,
        filename=source.filename,
        version=version,
        page_first=source.page_first,
        heading_path=source.heading_path,
        char_start=start,
        char_end=start + len(found.text),
        quote=found.text,
        support=passage.support,
    )
    return await verify_citation(resources, workspace_id, citation)


def _is_span(version: object, start: object, end: object) -> bool:
    return (
        isinstance(version, int)
        and isinstance(start, int)
        and isinstance(end, int)
        and 0 < version <= LARGEST_INTEGER
        and 0 <= start < end <= min(LARGEST_INTEGER, start + MAX_QUOTE_CHARS)
    )

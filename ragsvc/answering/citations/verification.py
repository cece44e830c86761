"""Compares citations with the texts in Postgres."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ragsvc.db import canonical_text, documents
from ragsvc.domain.documents import DocumentStatus

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.domain.chat.citations import Citation
    from ragsvc.resources import Resources


async def verify_citation(resources: Resources, workspace_id: UUID, citation: Citation) -> Citation:
    """Compare the quote with the stored text; redact the citation if its document is being deleted."""
    if citation.document_id is None or citation.char_start is None or citation.version is None:
        return citation
    async with resources.pool.acquire() as conn:
        document = await documents.select_document(conn, workspace_id, citation.document_id)
        if document is None or document.status is DocumentStatus.DELETING:
            return citation.redacted()
        found = await canonical_text.select_text_slice(
            conn,
            workspace_id,
            citation.document_id,
            version=citation.version,
            start=citation.char_start,
            end=citation.char_end,
        )
    return replace(citation, verified=found is not None and found.text == citation.quote)

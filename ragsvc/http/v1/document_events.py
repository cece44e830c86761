"""Server-sent events that report a document's ingestion: /v1/documents/{id}/events."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from aiohttp import web

from ragsvc.db import documents
from ragsvc.domain.documents import DocumentStatus
from ragsvc.domain.workspaces import Scope
from ragsvc.http.auth import caller_of
from ragsvc.http.contract.operations import Media, operation
from ragsvc.http.sse import Event, reserve_stream
from ragsvc.http.state import resources_of
from ragsvc.http.v1.documents import DocumentView, find_document, render_document

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ragsvc.domain.documents import Document, EmbeddingSpace
    from ragsvc.resources import Resources

routes = web.RouteTableDef()

EVENTS = Media(
    "text/event-stream", "The document, now and whenever it changes.", events={"document.updated": DocumentView}
)
# The row is polled less and less often while nothing changes.
FIRST_POLL_S = 0.2
SLOWEST_POLL_S = 2.0
FINAL_STATUSES = frozenset({DocumentStatus.READY, DocumentStatus.FAILED, DocumentStatus.DELETING})


@routes.get("/v1/documents/{document_id}/events", allow_head=False)
@operation(
    "Follow a document until it is ready, failed or deleted",
    Scope.READ,
    responses={200: EVENTS},
)
async def stream_document_events(request: web.Request) -> web.StreamResponse:
    """Send the document now and whenever it changes."""
    caller = caller_of(request)
    document = await find_document(request)
    with reserve_stream(request, caller) as slot:
        return await slot.send(request, _follow(resources_of(request), document))


async def _follow(resources: Resources, document: Document) -> AsyncGenerator[Event, None]:
    yield _event(document, resources.space)
    wait_s = FIRST_POLL_S
    while document.status not in FINAL_STATUSES:
        await asyncio.sleep(wait_s)
        async with resources.pool.acquire() as conn:
            found = await documents.select_document(conn, document.workspace_id, document.id)
        # A deletion can finish between two polls; the last event is then based on the last known row.
        current = found or replace(document, status=DocumentStatus.DELETING, stage=None)
        if current == document:
            wait_s = min(wait_s * 1.5, SLOWEST_POLL_S)
            continue
        document, wait_s = current, FIRST_POLL_S
        yield _event(document, resources.space)


def _event(document: Document, current: EmbeddingSpace) -> Event:
    return Event("document.updated", render_document(document, current))

"""Payloads of jobs: they are stored in a fixed form, read back unchanged, and shown with public ids."""

from __future__ import annotations

from uuid import UUID

import pytest

from ragsvc.domain.collections import Chunking
from ragsvc.domain.jobs import BulkPayload, DeletePayload, DeliverPayload, IngestPayload, Payload, show_payload
from ragsvc.domain.webhooks import WebhookEvent

ID = UUID("0199c1f2-a3b4-7c5d-8e6f-0a1b2c3d4e5f")
DATA: dict[str, object] = {"document_id": f"doc_{ID.hex}", "error": {"code": "corrupt", "retryable": False}}


@pytest.mark.parametrize(
    ("payload", "stored", "shown"),
    [
        (IngestPayload(ID), {"file_id": str(ID)}, {"file_id": f"file_{ID.hex}"}),
        (
            IngestPayload(ID, Chunking(64, 8)),
            {"file_id": str(ID), "chunking": {"max_tokens": 64, "overlap_tokens": 8}},
            {"file_id": f"file_{ID.hex}", "chunking": {"max_tokens": 64, "overlap_tokens": 8}},
        ),
        (DeletePayload(ID), {"deletion_id": str(ID)}, {"deletion_id": f"del_{ID.hex}"}),
        (
            DeliverPayload(ID, WebhookEvent.DOCUMENT_FAILED, DATA),
            {"webhook_id": str(ID), "event": "document.failed", "data": DATA},
            {"webhook_id": f"hook_{ID.hex}", "event": "document.failed", "data": DATA},
        ),
        (BulkPayload(), {}, {}),
    ],
)
def test_a_payload_has_a_stored_form_and_a_shown_form(
    payload: Payload, stored: dict[str, object], shown: dict[str, object]
) -> None:
    assert payload.to_json() == stored
    assert show_payload(stored) == shown


@pytest.mark.parametrize(
    "payload",
    [
        IngestPayload(ID),
        IngestPayload(ID, Chunking(64, 8)),
        DeletePayload(ID),
        DeliverPayload(ID, WebhookEvent.DOCUMENT_READY, DATA),
    ],
)
def test_a_payload_is_read_back_as_it_was_stored(payload: IngestPayload | DeletePayload | DeliverPayload) -> None:
    assert type(payload).from_json(payload.to_json()) == payload

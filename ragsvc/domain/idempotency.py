"""Requests with an Idempotency-Key and their stored responses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID


@dataclass(frozen=True, slots=True)
class Call:
    """A request and its key; `body_hash` is None until the body has been read."""

    workspace_id: UUID
    key: str
    call_hash: bytes
    body_hash: bytes | None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to process a call; `is_taken_over` is true if an earlier attempt ended without a response."""

    call: Call
    token: UUID
    resource_id: UUID
    seed: bytes
    is_taken_over: bool


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """The stored response to a call; `status` is None until there is one, `body` is None if it must be rebuilt."""

    call_hash: bytes
    body_hash: bytes | None
    resource_id: UUID
    seed: bytes
    status: int | None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None

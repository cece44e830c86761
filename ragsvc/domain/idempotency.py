"""Requests that may be sent twice and count once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID


@dataclass(frozen=True, slots=True)
class Call:
    """A request under its key; `body_hash` is None as long as the body has not been read."""

    workspace_id: UUID
    key: str
    call_hash: bytes
    body_hash: bytes | None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to answer a call; `is_taken_over` tells that somebody began before and did not get to an answer."""

    call: Call
    token: UUID
    resource_id: UUID
    seed: bytes
    is_taken_over: bool


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """What became of a call: no status while it has no answer, no body where that is made again."""

    call_hash: bytes
    body_hash: bytes | None
    resource_id: UUID
    seed: bytes
    status: int | None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None

"""Ids and their public form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from uuid_utils.compat import uuid7

if TYPE_CHECKING:
    from uuid import UUID

# The prefix of each kind of public id.
Prefix = Literal[
    "ws", "key", "file", "col", "doc", "chunk", "upl", "job", "chat", "msg", "run", "del", "aud", "hook", "dlv", "bulk"
]


def new_id() -> UUID:
    """Return a new UUIDv7; such ids sort by their time of creation."""
    return uuid7()


def format_id(prefix: Prefix, value: UUID) -> str:
    """Return the public form of an id, such as `doc_018f…`."""
    return f"{prefix}_{value.hex}"

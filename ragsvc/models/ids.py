"""The ids of things."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uuid_utils.compat import uuid7

if TYPE_CHECKING:
    from uuid import UUID


def new_id() -> UUID:
    """Return a new UUIDv7: ids order by the time they were made."""
    return uuid7()

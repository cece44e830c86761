"""Deletes stored idempotency keys after each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.resources import Resources


@pytest.fixture(autouse=True)
async def clean(resources: Resources) -> AsyncIterator[None]:
    """Delete the stored keys, since these tests share the operator and an Idempotency-Key."""
    yield
    async with resources.pool.acquire() as conn:
        await conn.execute("DELETE FROM idempotency_keys")

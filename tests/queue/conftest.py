"""Fixtures for tests of Redis: settings with a unique prefix, and a connection."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from ragsvc.queue.connection import open_redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.queue.connection import RedisConnection
    from ragsvc.settings.settings import Settings


@pytest.fixture
def own_settings(base_settings: Settings) -> Settings:
    """Settings with a unique prefix."""
    return base_settings.changed({"queue_prefix": f"test-{uuid.uuid4().hex[:12]}"})


@pytest.fixture
async def redis(own_settings: Settings) -> AsyncIterator[RedisConnection]:
    """A connection to Redis."""
    connection = open_redis(own_settings)
    yield connection
    await connection.aclose()

"""Fixtures of the model calls' tests."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from ragsvc.queue.connection import open_redis
from ragsvc.queue.rate_limit import FleetRateLimit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.llm.rate_limit import RateLimit
    from ragsvc.settings import Settings


@pytest.fixture
async def limit(base_settings: Settings) -> AsyncIterator[RateLimit]:
    """A rate that only a provider's Retry-After limits, this test's own."""
    redis = open_redis(base_settings)
    yield FleetRateLimit(redis, base_settings.model_copy(update={"queue_prefix": f"test-{uuid.uuid4().hex[:12]}"}))
    await redis.aclose()

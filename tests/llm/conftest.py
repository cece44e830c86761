"""Fixtures for tests of model calls."""

from __future__ import annotations

import uuid
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from ragsvc.llm.chat import ChatDelta, ChatTurn
from ragsvc.llm.client import LlmClient, open_llm
from ragsvc.queue.connection import open_redis
from ragsvc.queue.provider_rate import RedisProviderRate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.llm.provider_rate import ProviderRate
    from ragsvc.settings.settings import Settings
    from tests.support.servers.model_server import ScriptedModels

TURNS = [ChatTurn("system", "Answer."), ChatTurn("user", "Hello?")]


@pytest.fixture
async def limit(base_settings: Settings) -> AsyncIterator[ProviderRate]:
    """A rate limiter for this test alone, in which only the provider's Retry-After causes delays."""
    redis = open_redis(base_settings)
    yield RedisProviderRate(redis, base_settings.changed({"queue_prefix": f"test-{uuid.uuid4().hex[:12]}"}))
    await redis.aclose()


@pytest.fixture
async def models(
    base_settings: Settings, scripted_models: ScriptedModels, limit: ProviderRate
) -> AsyncIterator[LlmClient]:
    """A client of the scripted server with a timeout of half a second."""
    scripted = scripted_models.applied_to(base_settings).changed({"model_timeout_s": 0.5})
    async with open_llm(scripted, limit) as opened:
        yield opened


async def collect(models: LlmClient, *, into: list[ChatDelta]) -> None:
    """Read an answer to its end."""
    async with aclosing(models.stream_chat(TURNS, model="scripted")) as deltas:
        async for delta in deltas:
            into.append(delta)  # noqa: PERF401 - deltas before a failure are collected too

"""Fixtures of the model calls' tests."""

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
    """A rate that only a provider's Retry-After limits, this test's own."""
    redis = open_redis(base_settings)
    yield RedisProviderRate(redis, base_settings.changed({"queue_prefix": f"test-{uuid.uuid4().hex[:12]}"}))
    await redis.aclose()


@pytest.fixture
async def models(
    base_settings: Settings, scripted_models: ScriptedModels, limit: ProviderRate
) -> AsyncIterator[LlmClient]:
    """The client of the scripted server; it waits half a second for the next byte."""
    scripted = scripted_models.applied_to(base_settings).changed({"model_timeout_s": 0.5})
    async with open_llm(scripted, limit) as opened:
        yield opened


async def collect(models: LlmClient, *, into: list[ChatDelta]) -> None:
    """Read an answer to its end."""
    async with aclosing(models.stream_chat(TURNS, model="scripted")) as deltas:
        async for delta in deltas:
            into.append(delta)  # noqa: PERF401 - what came before a failure counts

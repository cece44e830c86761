"""The layout of deploy/Procfile, started once for the tests of this folder."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from tests.deploy.client import open_client
from tests.deploy.layout import open_layout
from tests.support.servers.databases import cloned
from tests.support.servers.model_server import ScriptedModels, Slow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.settings.settings import Settings
    from tests.deploy.client import Client
    from tests.deploy.layout import Layout

# Long enough that restarts affect open streams.
ANSWER_S = 0.5


@pytest.fixture(scope="module")
async def layout(base_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Layout]:
    """Two APIs behind Caddy, an ingestion and a deletion worker, with a slow model."""
    own = uuid.uuid4().hex[:12]
    models = ScriptedModels()
    models.chat.usual = Slow(ANSWER_S)
    dsn = base_settings.stores.database_url.get_secret_value()
    async with models.serving(), cloned(dsn, template="template1") as url:
        settings = models.applied_to(base_settings).changed(
            {
                "database_url": SecretStr(url),
                "queue_prefix": f"deploy-{own}",
                "s3_bucket_prefix": f"deploy-{own}",
                "sweep_interval_s": 1.0,
            }
        )
        async with open_layout(settings, tmp_path_factory.mktemp("layout")) as opened:
            yield opened


@pytest.fixture
async def client(layout: Layout) -> AsyncIterator[Client]:
    """A client of a new workspace."""
    admin_key = layout.settings.api.admin_api_key
    assert admin_key is not None
    async with open_client(layout.url, admin_key.get_secret_value()) as opened:
        yield opened

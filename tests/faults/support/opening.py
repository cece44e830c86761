"""Opens a fleet with its own database and Redis, and with proxies that can cut its connections to the providers."""

from __future__ import annotations

import tempfile
import uuid
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from yarl import URL

from tests.faults.support.fleet import FAST, Fleet
from tests.faults.support.gates import Gates
from tests.faults.support.own_servers import OwnRedis, StoreProxy
from tests.http.support.proxy import Proxy
from tests.support.servers.databases import cloned
from tests.support.servers.model_server import ScriptedModels

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.settings.settings import Settings
    from tests.support.servers.servers import Servers


@asynccontextmanager
async def open_fleet(base_settings: Settings, template: str, servers: Servers, **changes: Any) -> AsyncIterator[Fleet]:
    """Yield a fleet without workers; it shares only Postgres and the store with other tests."""
    dsn = base_settings.stores.database_url.get_secret_value()
    async with (
        cloned(dsn, template=template) as url,
        open_fleet_on(url, base_settings, servers, **changes) as fleet,
    ):
        yield fleet


@asynccontextmanager
async def open_fleet_on(url: str, base_settings: Settings, servers: Servers, **changes: Any) -> AsyncIterator[Fleet]:
    """Yield a fleet without workers that uses this migrated database."""
    # Imported here because it imports the client of the models, which is slow.
    from ragsvc.resources import open_resources  # noqa: PLC0415

    own = uuid.uuid4().hex[:12]
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ragsvc-faults-")))
        redis = OwnRedis(folder)
        await redis.start()
        stack.push_async_callback(redis.kill)
        settings = base_settings.changed(
            FAST
            | {
                "database_url": SecretStr(url),
                "redis_url": SecretStr(redis.url),
                "queue_prefix": f"faults-{own}",
                "s3_bucket_prefix": f"faults-{own}",
            }
            | changes
        )
        models = await stack.enter_async_context(ScriptedModels(servers).serving())
        store = await stack.enter_async_context(StoreProxy(servers.s3_url).serving())
        gates = Gates(url)
        await gates.install()
        resources = await stack.enter_async_context(open_resources(settings, pool_size=8))
        models_proxy = await stack.enter_async_context(Proxy("127.0.0.1", URL(models.url).port or 0))
        store_proxy = await stack.enter_async_context(Proxy("127.0.0.1", URL(store.url).port or 0))
        worker_settings = settings.changed(
            {
                "openai_base_url": f"http://127.0.0.1:{models_proxy.port}/v1",
                "s3_endpoint_url": f"http://127.0.0.1:{store_proxy.port}",
            }
        )
        fleet = Fleet(
            settings, worker_settings, folder, resources, redis, store, models, gates, models_proxy, store_proxy
        )
        stack.push_async_callback(fleet.stop)
        yield fleet

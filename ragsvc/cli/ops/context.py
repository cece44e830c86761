"""The resources that operators' commands use: Postgres and Redis, but neither the store nor the models."""

from __future__ import annotations

import getpass
import os
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from ragsvc.cli.client.target import find_ready_file, read_ready_file, say_target
from ragsvc.cli.exits import BadUsage
from ragsvc.db.connections.pool import open_pool
from ragsvc.domain.audit import Actor, ActorKind, acting
from ragsvc.queue.connection import open_redis
from ragsvc.queue.notifier import Notifier
from ragsvc.settings.settings import load_settings
from ragsvc.telemetry.logs import configure_logging

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.db.connections.pool import Pool
    from ragsvc.queue.connection import RedisConnection
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings

# A replay holds one connection for its lock, and uses another for the dead letters, one after the other.
POOL_SIZE = 3


@dataclass(frozen=True, slots=True)
class OpsContext:
    """The subset of a process's resources that the dead-letter commands use."""

    settings: Settings
    pool: Pool
    redis: RedisConnection
    notifier: Notifier


@asynccontextmanager
async def open_context() -> AsyncIterator[Resources]:
    """Open Postgres and Redis as configured in the environment.

    Raises:
        StartupRefused: a setting is missing, or Postgres is unreachable.
    """
    settings = _load_settings()
    act_as_operator()
    async with open_pool(settings, size=POOL_SIZE) as pool:
        redis = open_redis(settings)
        try:
            # Dead letters need nothing else, so an operator's shell needs no other settings.
            yield cast("Resources", OpsContext(settings, pool, redis, Notifier(redis, settings)))
        finally:
            await redis.aclose()


def act_as_operator() -> None:
    """Record this process's actions in the audit log under the operator's shell user."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user in a container may have no name
        user = f"uid {os.getuid()}"
    acting.set(Actor(ActorKind.CLI, f"{user}@{socket.gethostname()}"))


def _load_settings() -> Settings:
    settings = load_settings()
    say_stores(settings)
    configure_logging(settings.changed({"log_level": "warning", "log_format": "console"}))
    return settings


def say_stores(settings: Settings) -> None:
    """Say which database a command acts on.

    Raises:
        BadUsage: RAGSVC_URL names another service, as far as that is known.
    """
    url = settings.stores.database_url.get_secret_value()
    ready = read_ready_file(find_ready_file())
    target = (os.environ.get("RAGSVC_URL") or "").rstrip("/")
    if target and ready and (target == ready.get("base_url")) != (url == ready.get("database_url")):
        raise BadUsage(f"RAGSVC_URL is {target}, but DATABASE_URL belongs to another service: unset one of them")
    address = urlsplit(url)
    say_target(f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}", "DATABASE_URL")

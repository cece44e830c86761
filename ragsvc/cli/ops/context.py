"""The resources that operators' commands use: Postgres and Redis, but neither the store nor the models."""

from __future__ import annotations

import getpass
import os
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from ragsvc.cli.client.target import READY_FILE, read_ready_file
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
VARIABLES = {"DATABASE_URL": "database_url", "REDIS_URL": "redis_url", "QUEUE_PREFIX": "queue_prefix"}


@dataclass(frozen=True, slots=True)
class OpsContext:
    """The subset of a process's resources that the dead-letter commands use."""

    settings: Settings
    pool: Pool
    redis: RedisConnection
    notifier: Notifier


@asynccontextmanager
async def open_context() -> AsyncIterator[Resources]:
    """Open Postgres and Redis as configured in the environment, or else those of `ragsvc dev` in ./.ragsvc.

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
    ready = read_ready_file(READY_FILE) if not os.environ.get("DATABASE_URL") else {}
    os.environ.update({variable: ready[name] for variable, name in VARIABLES.items() if name in ready})
    settings = load_settings()
    configure_logging(settings.changed({"log_level": "warning", "log_format": "console"}))
    return settings

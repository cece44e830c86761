"""The environment of the service's processes: the embedded servers, what suits a small machine, and what is set."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from ragsvc.devstack.parts.s3 import REGION
from ragsvc.devstack.ports import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ragsvc.devstack.secrets import Secrets
    from ragsvc.devstack.stack import Part, Parts

# Whichever is set is used instead of the embedded server.
URLS = {"postgres": "DATABASE_URL", "redis": "REDIS_URL", "s3": "S3_ENDPOINT_URL", "models": "OPENAI_BASE_URL"}
# A person (and a check) sees recovery in seconds.
DEFAULTS = {"JOB_LEASE_S": "6", "SWEEP_INTERVAL_S": "1", "BACKOFF_CAP_S": "5", "LOG_FORMAT": "console"}
# Nobody meets these by hand; whoever sets one of the two means both.
RATE = {"RATE_LIMIT_RPS": "1000", "RATE_LIMIT_BURST": "2000"}
# They belong to a server that is not used: set for another one, they would be wrong here.
NOT_FOR_OWN_PARTS = {
    "postgres": ("MIGRATION_DATABASE_URL",),
    "redis": ("REDIS_CLUSTER",),
    "s3": ("S3_PUBLIC_ENDPOINT_URL", "S3_ADDRESSING_STYLE"),
    "models": (),
}


def own_parts(parts: Parts, given: Mapping[str, str]) -> list[Part]:
    """Return the servers that have to be started: those whose URL is not given."""
    every: list[Part] = [parts.postgres, parts.redis, parts.s3, parts.models]
    return [part for part in every if not given.get(URLS[part.name])]


def service_environment(parts: Parts, secrets: Secrets, *, port: int, given: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment: what is given wins, but for what opens or describes an embedded server."""
    # An empty variable is one that is not set (settings.py).
    env = DEFAULTS | {"ADMIN_API_KEY": secrets.admin_api_key} | {name: value for name, value in given.items() if value}
    if not RATE.keys() & env.keys():
        env |= RATE
    own = {
        "postgres": {"DATABASE_URL": parts.postgres.url},
        "redis": {"REDIS_URL": parts.redis.url},
        "s3": {
            "S3_ENDPOINT_URL": parts.s3.url,
            "S3_ACCESS_KEY_ID": secrets.s3_access_key_id,
            "S3_SECRET_ACCESS_KEY": secrets.s3_secret_access_key,
            "S3_REGION": REGION,
        },
        "models": {"OPENAI_BASE_URL": parts.models.url, "OPENAI_API_KEY": secrets.models_api_key},
    }
    for part in own_parts(parts, given):
        for name in NOT_FOR_OWN_PARTS[part.name]:
            env.pop(name, None)
        env |= own[part.name]
        if part is parts.models:
            env = parts.models.settings | env
    return env | {"PORT": str(port), "HOST": listen_address(given)}


def worker_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return a worker's: METRICS_PORT is the API's, and each worker takes a free port, which its log tells."""
    return {**env, "METRICS_PORT": "0"} if "METRICS_PORT" in env else dict(env)


def listen_address(given: Mapping[str, str]) -> str:
    """Return HOST where it is an address; some shells set it to the machine's name."""
    try:
        return str(ipaddress.ip_address(given.get("HOST", "")))
    except ValueError:
        return LOOPBACK

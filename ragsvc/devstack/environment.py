"""The environment of the service's processes: the stack's servers, defaults for a small machine, given settings."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from ragsvc.devstack.parts.s3 import REGION
from ragsvc.devstack.ports import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ragsvc.devstack.parts.model_server import ModelServer
    from ragsvc.devstack.secrets import Secrets
    from ragsvc.devstack.stack import Part, Parts

# If set, the URL's server replaces the stack's own.
URLS = {"postgres": "DATABASE_URL", "redis": "REDIS_URL", "s3": "S3_ENDPOINT_URL"}
# Short, so that recovery is visible within seconds.
DEFAULTS = {"JOB_LEASE_S": "6", "SWEEP_INTERVAL_S": "1", "BACKOFF_CAP_S": "5", "LOG_FORMAT": "console"}
# Pages and receivers under development run on this machine. The API has no cookies, so a page still needs a key.
LOCAL = {
    "CORS_ALLOWED_ORIGINS": "*",
    "WEBHOOK_ALLOWED_ORIGINS": ",".join(
        f"http://{host}:{port}" for host in ("localhost", "127.0.0.1") for port in (3000, 5000, 8000, 9000)
    ),
}
# A rate that manual use does not reach; setting either variable replaces both.
RATE = {"RATE_LIMIT_RPS": "1000", "RATE_LIMIT_BURST": "2000"}
# These variables describe a server that is not used, so they must not be applied to the stack's own.
NOT_FOR_OWN_PARTS = {
    "postgres": ("MIGRATION_DATABASE_URL",),
    "redis": ("REDIS_CLUSTER",),
    "s3": ("S3_PUBLIC_ENDPOINT_URL", "S3_ADDRESSING_STYLE"),
}
NO_KEY = "none"


def own_parts(parts: Parts, given: Mapping[str, str]) -> list[Part]:
    """Return the servers to start: those whose URL is not given."""
    stores: list[Part] = [parts.postgres, parts.redis, parts.s3]
    own = [part for part in stores if not given.get(URLS[part.name])]
    return [*own, parts.models] if has_own_chat(given) or has_own_embeddings(given) else own


def has_own_chat(given: Mapping[str, str]) -> bool:
    """Return whether the built-in chat model is used."""
    return not given.get("OPENAI_BASE_URL")


def has_own_embeddings(given: Mapping[str, str]) -> bool:
    """Return whether the built-in embedding model is used: also beside a chat server alone, which may have no other."""
    return not given.get("EMBEDDING_BASE_URL") and (has_own_chat(given) or not given.get("EMBEDDING_MODEL"))


def service_environment(parts: Parts, secrets: Secrets, *, port: int, given: Mapping[str, str]) -> dict[str, str]:
    """Return the complete environment. Given variables take precedence, except those for the stack's own servers."""
    # An empty variable counts as unset, as in the settings.
    env = (
        DEFAULTS
        | LOCAL
        | {"ADMIN_API_KEY": secrets.admin_api_key}
        | {name: value for name, value in given.items() if value}
    )
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
    }
    for part in own_parts(parts, given):
        for name in NOT_FOR_OWN_PARTS.get(part.name, ()):
            env.pop(name, None)
        env |= own.get(part.name, {})
    env = _with_models(env, parts.models, api_key=secrets.models_api_key, given=given)
    return env | {"PORT": str(port), "HOST": listen_address(given)}


def _with_models(env: dict[str, str], models: ModelServer, *, api_key: str, given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with the built-in models, each unless another server is given for it.

    A key is only sent to the server that it was given for.
    """
    if has_own_embeddings(given):
        env.pop("EMBEDDING_API_KEY_FILE", None)
        env = models.embedding_settings | env | {"EMBEDDING_BASE_URL": models.url, "EMBEDDING_API_KEY": api_key}
    elif has_own_chat(given) and not {"EMBEDDING_API_KEY", "EMBEDDING_API_KEY_FILE"} & env.keys():
        env["EMBEDDING_API_KEY"] = env.get("OPENAI_API_KEY", NO_KEY)
    if has_own_chat(given):
        env.pop("OPENAI_API_KEY_FILE", None)
        env = models.chat_settings | env | {"OPENAI_BASE_URL": models.url, "OPENAI_API_KEY": api_key}
    return env


def worker_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return a worker's environment: METRICS_PORT belongs to the API; each worker picks a free port and logs it."""
    return {**env, "METRICS_PORT": "0"} if "METRICS_PORT" in env else dict(env)


def listen_address(given: Mapping[str, str]) -> str:
    """Return HOST if it is an IP address; some shells set it to the machine's name."""
    try:
        return str(ipaddress.ip_address(given.get("HOST", "")))
    except ValueError:
        return LOOPBACK

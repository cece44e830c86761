"""Variables that are given take precedence, except those for a server that is not used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ragsvc.devstack.environment import listen_address, own_parts, service_environment, worker_environment
from ragsvc.devstack.secrets import Secrets
from ragsvc.devstack.stack import make_parts

if TYPE_CHECKING:
    from ragsvc.devstack.stack import Folders, Parts

SECRETS = Secrets()
URLS = {
    "DATABASE_URL": "postgresql://somewhere/db",
    "REDIS_URL": "redis://somewhere",
    "S3_ENDPOINT_URL": "https://somewhere",
    "OPENAI_BASE_URL": "https://somewhere/v1",
    "EMBEDDING_BASE_URL": "https://elsewhere/v1",
}


@pytest.fixture
def parts(folders: Folders) -> Parts:
    return make_parts(folders, SECRETS)


def environment(parts: Parts, given: dict[str, str]) -> dict[str, str]:
    return service_environment(parts, SECRETS, port=1234, given=given)


def test_without_settings_every_server_is_the_stack_s_own(parts: Parts) -> None:
    env = environment(parts, {})
    assert [part.name for part in own_parts(parts, {})] == ["postgres", "redis", "s3", "models"]
    assert env["DATABASE_URL"] == parts.postgres.url
    assert env["REDIS_URL"] == parts.redis.url
    assert env["S3_ENDPOINT_URL"] == parts.s3.url
    assert env["OPENAI_BASE_URL"] == parts.models.url
    assert (env["EMBEDDING_MODEL"], env["EMBEDDING_DIMENSIONS"]) == ("all-MiniLM-L6-v2", "384")
    texts_at_once = 4 * int(env["EMBEDDING_BATCH_SIZE"]) * int(env["EMBEDDING_CONCURRENCY"])
    assert texts_at_once / 17 < 60 / 5, (
        "calls for four documents must end within a fifth of MODEL_TIMEOUT_S on one core"
    )
    assert (env["JOB_LEASE_S"], env["SWEEP_INTERVAL_S"], env["BACKOFF_CAP_S"]) == ("6", "1", "5")
    assert (env["HOST"], env["PORT"]) == ("127.0.0.1", "1234")
    assert env["CORS_ALLOWED_ORIGINS"] == "*"
    assert "http://localhost:8000" in env["WEBHOOK_ALLOWED_ORIGINS"].split(",")
    assert env["ADMIN_API_KEY"] == SECRETS.admin_api_key


def test_with_all_urls_set_no_server_is_the_stack_s_own(parts: Parts) -> None:
    env = environment(parts, URLS)
    assert own_parts(parts, URLS) == []
    assert URLS.items() <= env.items()
    assert not {"EMBEDDING_MODEL", "CHAT_MODEL", "S3_ACCESS_KEY_ID", "OPENAI_API_KEY"} & env.keys()


def test_beside_a_chat_server_alone_minilm_embeds(parts: Parts) -> None:
    given = {"OPENAI_BASE_URL": "https://chat/v1", "OPENAI_API_KEY": "sk-chat", "CHAT_MODEL": "big"}
    assert parts.models in own_parts(parts, given)
    env = environment(parts, given)
    assert given.items() <= env.items()
    assert (env["EMBEDDING_BASE_URL"], env["EMBEDDING_API_KEY"]) == (parts.models.url, SECRETS.models_api_key)
    assert (env["EMBEDDING_MODEL"], env["EMBEDDING_DIMENSIONS"]) == ("all-MiniLM-L6-v2", "384")


@pytest.mark.parametrize("choice", [{"EMBEDDING_MODEL": "e5"}, {"EMBEDDING_BASE_URL": "https://embeddings/v1"}])
def test_a_given_embedding_model_replaces_the_built_in_one(parts: Parts, choice: dict[str, str]) -> None:
    given = {"OPENAI_BASE_URL": "https://chat/v1"} | choice
    assert parts.models not in own_parts(parts, given)
    env = environment(parts, given)
    assert given.items() <= env.items()
    assert "EMBEDDING_DIMENSIONS" not in env


@pytest.mark.parametrize(("given_key", "sent"), [({}, "none"), ({"OPENAI_API_KEY": "sk-theirs"}, "sk-theirs")])
def test_the_built_in_key_is_not_sent_to_an_embedding_server(
    parts: Parts, given_key: dict[str, str], sent: str
) -> None:
    env = environment(parts, {"EMBEDDING_BASE_URL": "https://embeddings/v1"} | given_key)
    assert env["EMBEDDING_API_KEY"] == sent
    assert (env["OPENAI_BASE_URL"], env["OPENAI_API_KEY"]) == (parts.models.url, SECRETS.models_api_key)


def test_an_empty_variable_counts_as_unset(parts: Parts) -> None:
    assert [part.name for part in own_parts(parts, {"REDIS_URL": ""})] == ["postgres", "redis", "s3", "models"]
    assert environment(parts, {"REDIS_URL": "", "JOB_LEASE_S": ""})["JOB_LEASE_S"] == "6"


def test_given_variables_win(parts: Parts) -> None:
    given = {"JOB_LEASE_S": "20", "ADMIN_API_KEY": "mine", "CHUNK_MAX_TOKENS": "100", "LOG_LEVEL": "debug"}
    assert given.items() <= environment(parts, given).items()


def test_credentials_of_another_server_do_not_reach_the_stack_s_own(parts: Parts) -> None:
    given = {
        "OPENAI_API_KEY": "sk-of-openai",
        "S3_ACCESS_KEY_ID": "of-aws",
        "S3_SECRET_ACCESS_KEY": "of-aws",
        "S3_PUBLIC_ENDPOINT_URL": "https://cdn.example",
        "MIGRATION_DATABASE_URL": "postgresql://production/db",
        "REDIS_CLUSTER": "true",
    }
    env = environment(parts, given)
    assert not set(given.values()) & set(env.values())
    assert env["OPENAI_API_KEY"] == SECRETS.models_api_key
    assert env["S3_ACCESS_KEY_ID"] == SECRETS.s3_access_key_id


def test_the_api_gets_the_metrics_port_and_a_worker_a_free_one(parts: Parts) -> None:
    env = environment(parts, {"METRICS_PORT": "9464"})
    assert env["METRICS_PORT"] == "9464"
    assert worker_environment(env) == env | {"METRICS_PORT": "0"}


def test_without_a_metrics_port_a_worker_has_none(parts: Parts) -> None:
    env = environment(parts, {"METRICS_PORT": ""})
    assert worker_environment(env) == env
    assert "METRICS_PORT" not in env


@pytest.mark.parametrize(
    ("host", "address"),
    [("", "127.0.0.1"), ("my-machine", "127.0.0.1"), ("0.0.0.0", "0.0.0.0"), ("::1", "::1")],  # noqa: S104
)
def test_a_host_that_is_not_an_address_is_ignored(host: str, address: str) -> None:
    assert listen_address({"HOST": host}) == address

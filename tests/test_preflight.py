"""Each fault of a dependency is described in one sentence before work fails because of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from ragsvc import preflight
from ragsvc.db.migrations import migrate
from ragsvc.preflight import check_all
from ragsvc.queue.server_checks import _find_faults
from ragsvc.resources import open_resources
from tests.http.support.processes import serving
from tests.support.documents.library import Library
from tests.support.servers.model_server import Embedded, Fail

if TYPE_CHECKING:
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings
    from tests.support.servers.model_server import ScriptedModels

CLOSED_PORT = "127.0.0.1:9"
GOOD_REDIS = {"redis_version": "7.2.4", "maxmemory_policy": "noeviction", "aof_enabled": 1}


@pytest.fixture(autouse=True)
def _enough_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a check finish on a busy machine, where the object store's retries take longer than the default timeout."""
    monkeypatch.setattr(preflight, "CHECK_TIMEOUT_S", 60.0)


async def faults_of(settings: Settings, **changes: object) -> dict[str, str]:
    async with open_resources(settings.changed(changes), pool_size=2) as resources:
        return {one.part: "; ".join(one.faults) for one in await check_all(resources) if one.faults}


async def test_healthy_dependencies_have_no_faults(
    resources: Resources, settings: Settings, workspace: Workspace
) -> None:
    assert await faults_of(settings) == {}
    assert await resources.storage.count_objects(workspace.bucket) == 0


@pytest.mark.parametrize(
    ("change", "parts", "message"),
    [
        ({"redis_url": SecretStr(f"redis://{CLOSED_PORT}/0")}, {"redis"}, "Redis at REDIS_URL cannot be used"),
        ({"s3_endpoint_url": f"http://{CLOSED_PORT}"}, {"store", "store rights"}, "cannot be reached"),
        ({"s3_secret_access_key": SecretStr("wrong")}, {"store", "store rights"}, "the object store returned"),
        ({"openai_base_url": f"http://{CLOSED_PORT}/v1"}, {"embedding", "chat"}, "cannot be reached"),
        ({"embedding_base_url": f"http://{CLOSED_PORT}/v1"}, {"embedding"}, "at EMBEDDING_BASE_URL cannot be used"),
        ({"chat_model": "nope"}, {"chat"}, "nope at OPENAI_BASE_URL cannot be used"),
        ({"rerank_base_url": f"http://{CLOSED_PORT}"}, {"reranker"}, "The reranker at RERANK_BASE_URL"),
        ({"admin_api_keys": SecretStr("anna:short")}, {"admin key"}, "The key of anna has 5 characters"),
    ],
)
@pytest.mark.usefixtures("workspace")
async def test_each_faulty_dependency_is_reported_separately(
    settings: Settings, change: dict[str, object], parts: set[str], message: str
) -> None:
    faults = await faults_of(settings, **change)
    assert set(faults) == parts
    assert all(message in fault for fault in faults.values())


async def test_documents_in_another_embedding_space_are_reported(
    resources: Resources, settings: Settings, workspace: Workspace
) -> None:
    await Library(resources, workspace.id).add("Descale the kettle every three months.")
    assert "embedding space" not in await faults_of(settings)
    await migrate(settings.changed({"embedding_revision": 2}), accept_new_space=True)
    assert "1 document is not in the current" in (await faults_of(settings, embedding_revision=2))["embedding space"]


async def test_wrong_dimensions_and_credentials_of_the_embedding_model_are_reported(
    settings: Settings, scripted_models: ScriptedModels
) -> None:
    scripted_models.embeddings.script(Embedded([[1.0, 0.0, 0.0]]), Fail(401))
    scripted = scripted_models.applied_to(settings)
    assert "vectors of length 3, EMBEDDING_DIMENSIONS is 384" in (await faults_of(scripted))["embedding"]
    assert "refused the service's credentials" in (await faults_of(scripted))["embedding"]


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        ({}, []),
        ({"redis_version": "6.0.16"}, ["Redis 6.0.16 is too old"]),
        ({"maxmemory_policy": "allkeys-lru"}, ["can evict"]),
        ({"aof_enabled": 0}, ["no AOF"]),
        ({"maxmemory_policy": "volatile-ttl", "aof_enabled": 0}, ["can evict", "no AOF"]),
    ],
)
def test_a_redis_that_can_lose_data_is_reported(change: dict[str, Any], messages: list[str]) -> None:
    faults = list(_find_faults(GOOD_REDIS | change))
    assert len(faults) == len(messages)
    assert all(expected in fault for expected, fault in zip(messages, faults, strict=True))


async def test_a_process_logs_faults_and_serves_anyway(settings: Settings) -> None:
    unreachable = settings.changed({"redis_url": SecretStr(f"redis://{CLOSED_PORT}/0")})
    async with serving(unreachable) as api:
        await api.started()
        fault = await api.logged("dependency_fault_found", timeout_s=30)
    assert fault["part"] == "redis"

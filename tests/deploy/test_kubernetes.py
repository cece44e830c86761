"""The manifests: valid against the schemas of Kubernetes and KEDA, and consistent with each other and the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
from cloudcoil.models.keda import v1alpha1 as keda

from tests.deploy.files import OVERLAYS, build_overlay, of_kind, pod_of
from tests.support.documents.documents import accept

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources

# The oldest supported version, and the newest that the schemas know.
KUBERNETES = ("1.34", "1.37")
KEDA: dict[str, type[BaseModel]] = {
    "ScaledObject": keda.ScaledObject,
    "TriggerAuthentication": keda.TriggerAuthentication,
}
WORKLOADS = ("ragsvc-api", "ragsvc-ingestion", "ragsvc-deletion")


@pytest.fixture(params=OVERLAYS)
def resources_of(request: pytest.FixtureRequest) -> tuple[dict[str, Any], ...]:
    return build_overlay(request.param)


@pytest.mark.parametrize("version", KUBERNETES)
def test_manifests_are_valid(resources_of: tuple[dict[str, Any], ...], version: str) -> None:
    plain = [resource for resource in resources_of if resource["kind"] not in KEDA]
    assert {"Deployment", "Job", "Service"} <= {resource["kind"] for resource in plain}
    for resource in plain:
        kubernetes_validate.validate(resource, version, strict=True)


def test_keda_resources_are_valid() -> None:
    found = [one for one in build_overlay("production") if one["kind"] in KEDA]
    assert len(found) == 3
    for one in found:
        read = KEDA[one["kind"]].model_validate(one)
        # The models ignore unknown fields, which are then missing from their output.
        assert read.model_dump(mode="json", by_alias=True, exclude_unset=True) == one


def test_referenced_names_exist(resources_of: tuple[dict[str, Any], ...]) -> None:
    deployments, services = of_kind(resources_of, "Deployment"), of_kind(resources_of, "Service")
    assert set(deployments) == set(WORKLOADS)
    for kind in ("HorizontalPodAutoscaler", "ScaledObject"):
        for one in of_kind(resources_of, kind).values():
            assert one["spec"]["scaleTargetRef"]["name"] in deployments
    configs = of_kind(resources_of, "ConfigMap")
    for one in (*deployments.values(), *of_kind(resources_of, "Job").values()):
        (container,) = pod_of(one)["containers"]
        assert container["envFrom"][0]["configMapRef"]["name"] in configs
    for ingress in of_kind(resources_of, "Ingress").values():
        (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
        assert path["backend"]["service"]["name"] in services


def test_selectors_select_one_workload_each(resources_of: tuple[dict[str, Any], ...]) -> None:
    deployments = of_kind(resources_of, "Deployment")
    labels = {name: one["spec"]["template"]["metadata"]["labels"] for name, one in deployments.items()}
    for kind in ("Deployment", "PodDisruptionBudget"):
        for name, one in of_kind(resources_of, kind).items():
            wanted = one["spec"]["selector"]["matchLabels"]
            assert [other for other, has in labels.items() if wanted.items() <= has.items()] == [name]
    service = of_kind(resources_of, "Service")["ragsvc-api"]
    selected = [name for name, has in labels.items() if service["spec"]["selector"].items() <= has.items()]
    assert selected == ["ragsvc-api"]


def test_network_policies_apply_to_our_pods_only(resources_of: tuple[dict[str, Any], ...]) -> None:
    policies = of_kind(resources_of, "NetworkPolicy")
    ours = {"app.kubernetes.io/name": "ragsvc"}
    assert policies["ragsvc"]["spec"]["podSelector"]["matchLabels"] == ours
    for one in of_kind(resources_of, "Deployment").values():
        assert ours.items() <= one["spec"]["template"]["metadata"]["labels"].items()
    (dns,) = (to for rule in policies["ragsvc"]["spec"]["egress"] for to in rule.get("to", ()))
    assert dns["podSelector"]["matchLabels"] == {"k8s-app": "kube-dns"}


def test_every_pod_runs_without_privileges(resources_of: tuple[dict[str, Any], ...]) -> None:
    for one in (*of_kind(resources_of, "Deployment").values(), *of_kind(resources_of, "Job").values()):
        pod = pod_of(one)
        (container,) = pod["containers"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]  # noqa: S108
        assert "memory" in container["resources"]["limits"]


def test_no_manifest_contains_a_secret(resources_of: tuple[dict[str, Any], ...]) -> None:
    assert of_kind(resources_of, "Secret") == {}


def test_scaled_deployments_do_not_set_replicas() -> None:
    deployments = of_kind(build_overlay("production"), "Deployment")
    assert [name for name, one in deployments.items() if "replicas" in one["spec"]] == []


async def test_workers_are_scaled_by_waiting_jobs(resources: Resources, workspace: Workspace) -> None:
    """Run the queries of the manifests on a real database."""
    for _ in range(3):
        await accept(resources, workspace)
    assert await ask(resources) == {"ingestion": (3, True), "deletion": (0, False)}
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE queue_state SET paused = true")
    assert await ask(resources) == {"ingestion": (0, False), "deletion": (0, False)}


async def ask(resources: Resources) -> dict[str, tuple[int, bool]]:
    """Return each queue's depth, and whether its oldest job has been waiting for any time."""
    found = {}
    for name, one in of_kind(build_overlay("production"), "ScaledObject").items():
        depth, age = (trigger["metadata"]["query"] for trigger in one["spec"]["triggers"])
        async with resources.pool.acquire() as conn:
            found[name.removeprefix("ragsvc-")] = (await conn.fetchval(depth), await conn.fetchval(age) > 0)
    return found

"""The manifests: valid against Kubernetes's and KEDA's schemas, in accord with each other and with the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
from cloudcoil.models.keda import v1alpha1 as keda

from tests.deploy.files import OVERLAYS, build_overlay, of_kind, pod_of
from tests.support.documents import accept

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources

# The oldest that is still cared for, and the newest that the schemas know.
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


def test_what_keda_reads_is_valid() -> None:
    found = [one for one in build_overlay("production") if one["kind"] in KEDA]
    assert len(found) == 3
    for one in found:
        read = KEDA[one["kind"]].model_validate(one)
        # The models pass over what they do not know: then it is missing in what they say.
        assert read.model_dump(mode="json", by_alias=True, exclude_unset=True) == one


def test_names_lead_to_something(resources_of: tuple[dict[str, Any], ...]) -> None:
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


def test_policies_hold_for_our_pods_and_leave_others_as_they_are(resources_of: tuple[dict[str, Any], ...]) -> None:
    policies = of_kind(resources_of, "NetworkPolicy")
    ours = {"app.kubernetes.io/name": "ragsvc"}
    assert policies["ragsvc"]["spec"]["podSelector"]["matchLabels"] == ours
    for one in of_kind(resources_of, "Deployment").values():
        assert ours.items() <= one["spec"]["template"]["metadata"]["labels"].items()
    (dns,) = (to for rule in policies["ragsvc"]["spec"]["egress"] for to in rule.get("to", ()))
    assert dns["podSelector"]["matchLabels"] == {"k8s-app": "kube-dns"}


def test_every_pod_runs_with_no_rights(resources_of: tuple[dict[str, Any], ...]) -> None:
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


def test_secrets_stand_nowhere(resources_of: tuple[dict[str, Any], ...]) -> None:
    assert of_kind(resources_of, "Secret") == {}


def test_whoever_scales_sets_the_replicas_alone() -> None:
    deployments = of_kind(build_overlay("production"), "Deployment")
    assert [name for name, one in deployments.items() if "replicas" in one["spec"]] == []


async def test_workers_are_scaled_by_what_waits(resources: Resources, workspace: Workspace) -> None:
    """The queries of the manifests, asked of a real database."""
    for _ in range(3):
        await accept(resources, workspace)
    assert await ask(resources) == {"ingestion": (3, True), "deletion": (0, False)}
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE queue_state SET paused = true")
    assert await ask(resources) == {"ingestion": (0, False), "deletion": (0, False)}


async def ask(resources: Resources) -> dict[str, tuple[int, bool]]:
    """Return each queue's depth, and whether its oldest job has waited."""
    found = {}
    for name, one in of_kind(build_overlay("production"), "ScaledObject").items():
        depth, age = (trigger["metadata"]["query"] for trigger in one["spec"]["triggers"])
        async with resources.pool.acquire() as conn:
            found[name.removeprefix("ragsvc-")] = (await conn.fetchval(depth), await conn.fetchval(age) > 0)
    return found

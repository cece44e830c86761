"""The files of deploy/, read the way their tools read them."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.support.servers.servers import ROOT

DEPLOY = ROOT / "deploy"
OVERLAYS = ("staging", "production")
# The tools are next to the interpreter, because the development group installs them.
BIN = Path(sys.executable).parent


def run_tool(name: str, *arguments: str | Path, env: dict[str, str] | None = None) -> str:
    """Run a tool that is installed as a package, and return its output.

    Raises:
        AssertionError: it failed; the message is its output.
    """
    command = [str(BIN / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)  # noqa: S603 - our own command
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def read_yaml(path: str) -> Any:
    """Return the only document of a YAML file."""
    return yaml.safe_load((DEPLOY / path).read_text())


def read_env(path: str) -> dict[str, str]:
    """Return the assignments of an environment file, including those that are commented out."""
    lines = (DEPLOY / path).read_text().splitlines()
    found = (re.fullmatch(r"#?([A-Z0-9_]+)=(.*)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


@cache
def build_overlay(name: str) -> tuple[dict[str, Any], ...]:
    """Return the resources that an overlay produces."""
    built = run_tool("kubectl", "kustomize", DEPLOY / "kubernetes" / "overlays" / name)
    return tuple(yaml.safe_load_all(built))


def of_kind(resources: tuple[dict[str, Any], ...], kind: str) -> dict[str, dict[str, Any]]:
    """Return the resources of a kind by name."""
    return {one["metadata"]["name"]: one for one in resources if one["kind"] == kind}


def pod_of(resource: dict[str, Any]) -> dict[str, Any]:
    """Return the pod of a Deployment or a Job."""
    pod: dict[str, Any] = resource["spec"]["template"]["spec"]
    return pod


def read_unit(path: Path) -> list[tuple[str, str]]:
    """Return the assignments of a systemd unit in order; names can repeat."""
    lines = path.read_text().splitlines()
    return [(line.partition("=")[0], line.partition("=")[2]) for line in lines if "=" in line and line[0] not in "#;"]


def read_procfile() -> dict[str, str]:
    """Return the commands of the Procfile by name."""
    lines = (DEPLOY / "Procfile").read_text().splitlines()
    return {line.partition(":")[0]: line.partition(":")[2].strip() for line in lines if line}

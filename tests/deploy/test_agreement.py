"""Variables in deploy/ are settings, required settings are set, and ports, paths, commands and grace periods agree."""

from __future__ import annotations

import re
import uuid
from typing import Any

import asyncpg

from ragsvc.cli.app import COMMANDS as COMMAND_LINE
from ragsvc.db.connections.pool import SESSION_SETTINGS
from ragsvc.settings.settings import FIELDS, Settings
from tests.deploy.files import (
    DEPLOY,
    OVERLAYS,
    build_overlay,
    of_kind,
    pod_of,
    read_env,
    read_procfile,
    read_unit,
    read_yaml,
)
from tests.support.servers.servers import ROOT

SETTINGS = {name.upper() for name in FIELDS}
REQUIRED = {name.upper() for name, field in FIELDS.items() if field.is_required()}
# For the servers that compose.yaml starts.
PASSWORDS = {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "GRAFANA_PASSWORD"}
# Named in the manifests; the secret itself is created elsewhere.
SECRET = {"DATABASE_URL", "REDIS_URL", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY", "OPENAI_API_KEY", "ADMIN_API_KEY"}
COMMANDS = {
    "migrate": ["ragsvc", "migrate"],
    "api": ["ragsvc", "serve"],
    "ingestion": ["arq", "ragsvc.workers.IngestionSettings"],
    "deletion": ["arq", "ragsvc.workers.DeletionSettings"],
}
RUNBOOK = (DEPLOY / "README.md").read_text()
# The time that a process needs to shut down after its grace period.
CLOSING_S = 5


def grace_s(process: str) -> float:
    """Return the default grace period of a process."""
    name = "api_grace_s" if process == "api" else "worker_grace_s"
    default: float = FIELDS[name].default
    return default


def default_port() -> int:
    port: int = FIELDS["port"].default
    return port


def compose_services() -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = read_yaml("compose.yaml")["services"]
    return {name: one for name, one in services.items() if one["image"].startswith("ragsvc:")}


def environments() -> dict[str, set[str]]:
    """Return the variable names that each kind of deployment sets for our processes."""
    example = set(read_env("ragsvc.env.example")) - PASSWORDS
    found = {f"compose {name}": example | set(one["environment"]) for name, one in compose_services().items()}
    for unit in (DEPLOY / "systemd").glob("*.service"):
        assignments = [value for name, value in read_unit(unit) if name == "Environment"]
        own = {word.partition("=")[0] for value in assignments for word in value.split()}
        found[unit.name] = example | own
    for overlay in OVERLAYS:
        resources = build_overlay(overlay)
        config = {name for one in of_kind(resources, "ConfigMap").values() for name in one["data"]}
        for one in (*of_kind(resources, "Deployment").values(), *of_kind(resources, "Job").values()):
            (container,) = pod_of(one)["containers"]
            own = {variable["name"] for variable in container.get("env", ())}
            found[f"{overlay} {container['name']}"] = config | own | SECRET
    return found


def test_every_variable_is_a_setting_and_every_required_one_is_set() -> None:
    for where, names in environments().items():
        assert names - SETTINGS == set(), where
        assert REQUIRED - names == set(), where


def test_the_manifests_list_the_secrets_that_they_need() -> None:
    for part in ("migrate", "api", "ingestion", "deletion"):
        manifest = (DEPLOY / "kubernetes" / "base" / f"{part}.yaml").read_text()
        listed = re.search(r"with the\n\s+# keys (.+)\.\n", manifest)
        assert listed is not None
        assert set(re.findall(r"[A-Z0-9_]{6,}", listed[1])) == SECRET


def test_every_layout_runs_the_same_commands() -> None:
    procfile = read_procfile()
    assert {name: procfile["release" if name == "migrate" else name].split() for name in COMMANDS} == COMMANDS
    compose = compose_services()
    assert {re.sub(r"-\d$", "", name): one["command"] for name, one in compose.items()} == COMMANDS
    for overlay in OVERLAYS:
        resources = build_overlay(overlay)
        workloads = (*of_kind(resources, "Deployment").values(), *of_kind(resources, "Job").values())
        containers = [pod_of(one)["containers"][0] for one in workloads]
        assert {container["name"]: container["args"] for container in containers} == COMMANDS
    units = {
        re.split(r"[-@.]", unit.name)[1]: dict(read_unit(unit))["ExecStart"].split()
        for unit in (DEPLOY / "systemd").glob("*.service")
    }
    programs = {name: [f"/opt/ragsvc/bin/{program}", *rest] for name, (program, *rest) in COMMANDS.items()}
    assert units == programs


def test_stop_timeouts_are_longer_than_the_grace_period() -> None:
    for name, one in compose_services().items():
        assert float(one["stop_grace_period"].removesuffix("s")) >= grace_s(name[:3]) + CLOSING_S
    for overlay in OVERLAYS:
        for one in of_kind(build_overlay(overlay), "Deployment").values():
            pod = pod_of(one)
            (container,) = pod["containers"]
            before_s = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            assert pod["terminationGracePeriodSeconds"] >= before_s + grace_s(container["name"]) + CLOSING_S
    for unit in (DEPLOY / "systemd").glob("*@.service"):
        assert float(dict(read_unit(unit))["TimeoutStopSec"].removesuffix("s")) >= grace_s("api") + CLOSING_S


def test_ports_agree() -> None:
    port = str(default_port())
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert f"PORT={port}" in dockerfile
    assert f"EXPOSE {port}" in dockerfile
    compose = read_yaml("compose.yaml")["services"]
    assert compose["caddy"]["environment"]["API_UPSTREAMS"].split() == [f"api-1:{port}", f"api-2:{port}"]
    scraped = {one["dns_sd_configs"][0]["port"] for one in read_yaml("prometheus/prometheus.yml")["scrape_configs"]}
    assert {int(one["environment"]["METRICS_PORT"]) for one in compose_services().values()} == scraped
    for overlay in OVERLAYS:
        resources = build_overlay(overlay)
        metrics = {int(one["data"]["METRICS_PORT"]) for one in of_kind(resources, "ConfigMap").values()}
        for one in of_kind(resources, "Deployment").values():
            (container,) = pod_of(one)["containers"]
            ports = {opened["name"]: opened["containerPort"] for opened in container["ports"]}
            assert metrics == scraped == {ports["metrics"]}
            assert ports.get("http", default_port()) == default_port()
            assert one["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"] == str(ports["metrics"])


def test_every_probed_path_exists() -> None:
    described = (ROOT / "ragsvc" / "http" / "ops" / "health.py").read_text()
    probed = set(re.findall(r"/(?:healthz|readyz)\b", (DEPLOY / "Dockerfile").read_text()))
    probed |= set(re.findall(r"health_uri (\S+)", (DEPLOY / "caddy" / "Caddyfile").read_text()))
    for overlay in OVERLAYS:
        (container,) = pod_of(of_kind(build_overlay(overlay), "Deployment")["ragsvc-api"])["containers"]
        probed |= {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert probed == {"/healthz", "/readyz"}
    assert all(f'@routes.get("{path}")' in described for path in probed)


def test_a_workers_probe_checks_the_file_that_the_worker_touches() -> None:
    for name in ("ingestion", "deletion"):
        compose = compose_services()[name]
        assert compose["healthcheck"]["test"] == ["CMD", "ragsvc", "worker-alive"]
        assert "WORKER_ALIVE_FILE" in compose["environment"]
        for overlay in OVERLAYS:
            (container,) = pod_of(of_kind(build_overlay(overlay), "Deployment")[f"ragsvc-{name}"])["containers"]
            assert "WORKER_ALIVE_FILE" in {variable["name"] for variable in container["env"]}
            for probe in ("startupProbe", "livenessProbe"):
                assert container[probe]["exec"]["command"] == ["ragsvc", "worker-alive"]


async def test_the_runbooks_role_settings_equal_the_session_settings(settings: Settings) -> None:
    _roles, statements = re.findall(r"^```sql\n(.+?)^```$", RUNBOOK, flags=re.MULTILINE | re.DOTALL)
    documented = dict(re.findall(r"ALTER ROLE ragsvc SET (\S+) = '(.+)';", statements))
    # application_name only identifies the session.
    assert documented == {name: value for name, value in SESSION_SETTINGS.items() if name != "application_name"}
    role = f"pooled_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(settings.stores.database_url.get_secret_value())
    try:
        await connection.execute(f"CREATE ROLE {role}")
        await connection.execute(statements.replace("ROLE ragsvc", f"ROLE {role}"))
        stored = await connection.fetchval(
            "SELECT setconfig FROM pg_db_role_setting JOIN pg_roles ON oid = setrole WHERE rolname = $1", role
        )
        await connection.execute(f"DROP ROLE {role}")
    finally:
        await connection.close()
    assert {one.partition("=")[0].lower() for one in stored} == set(documented)


def test_targets_and_commands_in_the_documents_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    for document in (ROOT / "README.md", DEPLOY / "README.md"):
        text = document.read_text()
        assert set(re.findall(r"`make ([a-z-]+)", text)) - targets == set(), document
        assert set(re.findall(r"`ragsvc ([a-z-]+)", text)) - set(COMMAND_LINE) == set(), document


def test_the_runbooks_links_are_valid() -> None:
    headings = re.findall(r"^#+ (.+)$", RUNBOOK, flags=re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = set(re.findall(r"\]\(#([^)]+)\)", RUNBOOK))
    assert links
    assert links - anchors == set()

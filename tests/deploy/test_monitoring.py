"""Alerts and dashboard are valid and use only metrics and labels that exist, and every alert is in the runbook."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import promql_parser as promql
import pytest
from prometheus_client.metrics import MetricWrapperBase

from ragsvc.http.limits.traffic import Traffic
from ragsvc.http.ops.readiness import Readiness
from ragsvc.http.ops.scrape import Scrape
from ragsvc.telemetry.metrics import REGISTRY
from tests.deploy.files import DEPLOY, read_yaml
from tests.support.scrapes import Figures

if TYPE_CHECKING:
    from ragsvc.resources import Resources

PROMTOOL = shutil.which("promtool")
PROMETHEUS = DEPLOY / "prometheus"
RULES = [rule for group in read_yaml("prometheus/alerts.yml")["groups"] for rule in group["rules"]]
PANELS = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())["panels"]
EXPRESSIONS = [rule["expr"] for rule in RULES] + [
    # Grafana inserts a duration here.
    target["expr"].replace("$__rate_interval", "5m")
    for panel in PANELS
    for target in panel.get("targets", ())
]
RUNBOOK = (DEPLOY / "README.md").read_text()
# Labels that Prometheus adds, and the label of histograms.
ADDED = {"instance", "job", "le"}
SUFFIX = re.compile(r"_(total|bucket|count|sum)$")


class Used:
    """The metrics and labels that an expression uses."""

    def __init__(self, expression: str) -> None:
        self.metrics: set[str] = set()
        self.labels: set[str] = set()
        promql.walk(promql.parse(expression), self._visit)

    def _visit(self, node: Any) -> None:
        match node:
            case promql.MatrixSelector():
                self._visit(node.vector_selector)
            case promql.VectorSelector():
                self.metrics.add(SUFFIX.sub("", node.name or ""))
                self.labels |= {matcher.name for matcher in node.matchers.matchers}
            case promql.AggregateExpr():
                self.labels |= set(node.modifier.labels) if node.modifier else set()
            case _:
                return


async def test_every_used_metric_and_label_is_exported(resources: Resources) -> None:
    body, _ = await Scrape(resources, Readiness(resources), Traffic()).render("")
    exported = {
        SUFFIX.sub("", name): set[str]() for name in re.findall(r"^# TYPE (\S+) ", body.decode(), flags=re.MULTILINE)
    }
    for collector in REGISTRY._collector_to_names:
        if isinstance(collector, MetricWrapperBase):
            exported[collector._name] |= set(collector._labelnames)
    for sample in Figures(body.decode()).samples:
        exported.setdefault(SUFFIX.sub("", sample.name), set()).update(sample.labels)
    assert len(EXPRESSIONS) > 50
    for expression in EXPRESSIONS:
        used = Used(expression)
        assert used.metrics, expression
        assert used.metrics - set(exported) == set(), expression
        labels = {label for name in used.metrics for label in exported[name]}
        assert used.labels - labels - ADDED == set(), expression


def test_every_alert_has_an_entry_in_the_runbook() -> None:
    entries = re.findall(r"^### (Ragsvc\w+)$", RUNBOOK, flags=re.MULTILINE)
    assert entries == [rule["alert"] for rule in RULES]
    for rule in RULES:
        assert rule["annotations"]["runbook_url"] == f"deploy/README.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]


def test_the_dashboard_is_well_formed() -> None:
    ids = [panel["id"] for panel in PANELS]
    assert len(set(ids)) == len(ids)
    for panel in PANELS:
        position = panel["gridPos"]
        assert position["x"] + position["w"] <= 24
        assert panel["type"] == "row" or panel["targets"]


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (apt install prometheus)")
@pytest.mark.parametrize(
    "arguments",
    [("check", "rules", "alerts.yml"), ("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")],
    ids=" ".join,
)
def test_promtool_accepts_the_files(arguments: tuple[str, ...]) -> None:
    assert PROMTOOL is not None
    command = [PROMTOOL, *arguments]
    done = subprocess.run(command, cwd=PROMETHEUS, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stdout + done.stderr

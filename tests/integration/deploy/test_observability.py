"""Dashboard, alerts and scrape targets name what the services really export."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import promql_parser
import pytest
import yaml
from dotenv import dotenv_values

from tests import exports, tiny_onnx
from tests.limits import LONG_S

ROOT = Path(__file__).parents[3]
DEPLOYMENTS = """
[models.alpha]
default = "onnx"
[models.alpha.stacks.onnx]
[models.alpha.stacks.tfserving]
[models.alpha.shadow]
stack = "tfserving"
percent = 10
"""
# Made by Prometheus itself for every target.
PROMETHEUS_OWN = {"up"}


@contextmanager
def metrics_of(*words: str) -> Iterator[set[str]]:
    """Run a service and return the names of all samples on its metrics page."""
    command = [sys.executable, "-m", *words, "--port", "0", "--metrics-port", "0"]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            lines = (re.search(r"metrics on (?:\S+:)?(\d+)", line) for line in process.stderr)
            port = next(found[1] for found in lines if found)
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=LONG_S) as reply:
                yield set(re.findall(r"^(\w+)[ {]", reply.read().decode(), re.MULTILINE))
        finally:
            process.kill()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What the gateway and onnx_svc export before the first call."""
    folder, models = tmp_path_factory.mktemp("gateway"), tmp_path_factory.mktemp("onnx_svc")
    exports.make_export(folder, "alpha", "onnx")
    exports.make_export(folder, "alpha", "saved_model")
    tiny_onnx.make_export(models, "alpha", 1, content=tiny_onnx.linear(1))
    (folder / "deployments.toml").write_text(DEPLOYMENTS)
    gateway = ("services.gateway", "--deployments", str(folder / "deployments.toml"), "--exports", str(folder))
    with metrics_of(*gateway) as ours, metrics_of("services.onnx_svc", "--models", str(models)) as theirs:
        return ours | theirs | PROMETHEUS_OWN


def names_in(expression: str) -> set[str]:
    """Return the metrics that an expression asks for. Raises ValueError when it is no PromQL."""
    found: set[str] = set()

    def visit(node: Any) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.add(node.name)
        return True

    promql_parser.walk(promql_parser.parse(expression.replace("$__rate_interval", "1m")), visit)
    return found


def panels() -> list[dict[str, Any]]:
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/servepath.json").read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_every_panel_asks_for_metrics_that_the_services_export(exported: set[str]) -> None:
    asked = {target["expr"]: names_in(target["expr"]) for panel in panels() for target in panel["targets"]}
    assert {expression: names - exported for expression, names in asked.items() if names - exported} == {}
    assert all(asked.values())


def test_every_alert_asks_for_metrics_that_the_services_export(exported: set[str]) -> None:
    asked = {rule["alert"]: names_in(rule["expr"]) for rule in alerts()}
    assert {alert: names - exported for alert, names in asked.items() if names - exported} == {}
    assert all(asked.values())


def test_a_metric_that_nobody_exports_is_found(exported: set[str]) -> None:
    assert names_in("sum(rate(servepath_gone_total[1m])) / up") - exported == {"servepath_gone_total"}


def test_every_metric_of_ours_is_on_the_dashboard(exported: set[str]) -> None:
    shown = {name for panel in panels() for target in panel["targets"] for name in names_in(target["expr"])}
    ours = {
        re.sub(r"_(bucket|sum|count|total|created)$", "", name)
        for name in exported
        if re.match("servepath|onnx_svc", name)
    }
    assert ours - {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in shown} == set()


def test_panels_do_not_cover_one_another() -> None:
    cells = [
        (x, y)
        for panel in panels()
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_every_panel_uses_the_data_source_that_is_provisioned() -> None:
    (source,) = yaml.safe_load((ROOT / "deploy/grafana/datasources/prometheus.yml").read_text())["datasources"]
    assert {panel["datasource"]["uid"] for panel in panels()} == {source["uid"]}


def test_prometheus_asks_the_metrics_ports_of_env() -> None:
    environment = dotenv_values(ROOT / ".env")
    jobs = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    gateway, onnx_svc, litert_svc = jobs
    assert str(gateway["dns_sd_configs"][0]["port"]) == environment["GATEWAY_METRICS_PORT"]
    assert onnx_svc["static_configs"][0]["targets"] == [f"onnx_svc:{environment['ONNX_SVC_METRICS_PORT']}"]
    assert litert_svc["dns_sd_configs"][0]["names"] == ["litert_svc"]
    assert str(litert_svc["dns_sd_configs"][0]["port"]) == environment["LITERT_SVC_METRICS_PORT"]


def test_every_alert_says_how_urgent_it_is_and_what_is_wrong() -> None:
    assert [rule["labels"]["severity"] for rule in alerts() if rule["annotations"]["summary"]] == [
        *("page", "warn", "page", "warn", "page", "page", "warn", "warn", "warn", "page", "warn")
    ]


def test_every_alert_has_its_part_of_the_runbook() -> None:
    runbook = (ROOT / "docs/operate.md").read_text().partition("\n## Alerts\n")[2].partition("\n## ")[0]
    assert re.findall(r"^### (\w+)$", runbook, re.MULTILINE) == [rule["alert"] for rule in alerts()]

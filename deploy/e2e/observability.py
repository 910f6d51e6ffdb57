"""Prometheus and Grafana over the running containers, where their images can be had."""

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from urllib.request import urlopen

from deploy.builder.images import read_variables
from deploy.compose import ROOT
from deploy.e2e.environment import Environment, until
from deploy.engine import EngineError, ensure_base
from servepath.protocols.stacks import METRICS
from servepath.runner.config import PORTS

ASK_S = 5.0
# Those whose metrics others may read.
MEASURED = {name for name, ports in PORTS.items() if any(p.purpose == METRICS and not p.loopback for p in ports)}


def observed(environment: Environment) -> Iterator[str]:
    """Start Prometheus and Grafana where they can be had: one must reach all targets, one have the dashboard."""
    variables = read_variables(ROOT, {**os.environ, **environment.project.settings})
    project = replace(environment.project, profiles=(*environment.project.profiles, "observability"))
    measured = MEASURED & set(environment.services)
    screens: Mapping[str, tuple[Callable[[str], bool], str]] = {
        "prometheus": (partial(targets_up, measured), f"reaches {', '.join(sorted(measured))}"),
        "grafana": (_dashboard_there, "has the dashboard"),
    }
    for service, (ask, said) in screens.items():
        image = variables[f"{service.upper()}_IMAGE"]
        try:
            ensure_base(project.engine, image)
        except EngineError:
            yield f"{image}: NOT TESTED (the image is not available)"
            continue
        project.up(service)
        until(partial(_answered, ask, variables[f"{service.upper()}_PORT"]), service)
        yield f"{image}: {said}"


def targets_up(measured: Collection[str], port: str) -> bool:
    """Return whether the Prometheus on a port of this machine has just these services as targets, and reaches each."""
    with urlopen(f"http://127.0.0.1:{port}/api/v1/targets", timeout=ASK_S) as reply:
        targets = json.load(reply)["data"]["activeTargets"]
    jobs = {target["labels"]["job"] for target in targets}
    return jobs == set(measured) and all(target["health"] == "up" for target in targets)


def _answered(ask: Callable[[str], bool], port: str) -> bool:
    try:
        return ask(port)
    except OSError:
        return False


def _dashboard_there(port: str) -> bool:
    with urlopen(f"http://127.0.0.1:{port}/api/dashboards/uid/servepath", timeout=ASK_S) as reply:
        return bool(json.load(reply)["dashboard"]["panels"])

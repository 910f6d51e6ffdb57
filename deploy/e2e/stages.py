"""What is done to the containers, in order. A stage gives lines that say what was seen; EngineError ends the test."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.request import urlopen

from deploy.builder import images as builder
from deploy.builder.images import read_variables
from deploy.compose import ROOT, Project
from deploy.e2e import security
from deploy.e2e.callers import calling
from deploy.engine import EngineError, ensure_base
from services.local.probe import NotReady, Probe, WrongAnswer
from services.wire.paths import PathInfo

EXPORTS = ROOT / "artifacts" / "exports"
SERVICES = ("torch_svc", "tf_svc", "onnx_svc", "gateway")
GATEWAYS = ("gateway", "gateway_2")
LOAD_S = 600.0
RECOVER_S = 120.0
CONNECT_S = 2
POLL_S = 0.5
# Short: that every answer is right is what it is for, not the times.
LOAD = ("RATE=300", "ROUNDS=2", "SEED=1")
# Tries to connect to every port of a host and prints those that somebody listens on.
SCAN = """
import socket, sys
host = socket.gethostbyname(sys.argv[1])
for port in range(1, 65536):
    with socket.socket() as probe:
        probe.settimeout(1)
        if not probe.connect_ex((host, port)):
            print(port)
"""
# Ends TorchServe's JVM from inside, as the service's own user may.
KILL_JAVA = """
import contextlib, os, pathlib
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    with contextlib.suppress(OSError):
        if (folder / "comm").read_text().strip() == "java":
            os.kill(int(folder.name), 9)
"""


@dataclass(frozen=True, slots=True)
class Stand:
    """What the stages work on. addresses: of the gateways, on this machine. embedded: tf_svc is our stand-in."""

    project: Project
    addresses: Mapping[str, str]
    embedded: bool


def build(stand: Stand) -> Iterator[str]:
    """Build every image that the compose file names, and hold those that have a limit against it."""
    variables = read_variables(ROOT, {**os.environ, **stand.project.settings})
    for name in ("gateway", "onnx_svc", "torch_svc", "tf_svc-embedded" if stand.embedded else "tf_svc", "loadtest"):
        built = builder.build(stand.project.engine, name, variables)
        if built.too_large():
            raise EngineError(f"an image is too large: {built}")
        yield str(built)


def start(stand: Stand) -> Iterator[str]:
    """Start everything and wait until it is healthy."""
    begin = time.monotonic()
    stand.project.up()
    yield f"all healthy after {time.monotonic() - begin:.0f} s"


def answers(stand: Stand) -> Iterator[str]:
    """Ask every path through the gateway, and hold the answers against the reference."""
    for name, engine in _ask_all(stand).items():
        yield f"{name}: right, by {engine}"


def _ask_all(stand: Stand) -> dict[str, str]:
    with Probe(stand.addresses["gateway"], EXPORTS) as probe:
        try:
            return {path.name: _engine(path, probe) for path in probe.paths()}
        except (NotReady, WrongAnswer) as error:
            raise EngineError(str(error)) from error


def _engine(path: PathInfo, probe: Probe) -> str:
    served = probe.ask(path).served
    return f"{served.engine} {served.engine_version}"


def secure(stand: Stand) -> Iterator[str]:
    """Hold every container against the rules, and look for open ports from their only neighbour, the gateway."""
    project = stand.project
    outside = _outside(project)
    containers = [_look(project, service, outside) for service in SERVICES]
    faults = [fault for container in containers for fault in security.faults(container)]
    if not any(container.escapes for container in containers):
        faults += ["S11 cannot be told: not even the gateway reaches itself on its other network"]
    faults += [*_open_ports(project), *_leaked_keys(project)]
    if faults:
        raise EngineError("; ".join(faults))
    rules = f"{len(security.RULES)} rules (S05, S11, S13-S19)"
    yield f"{rules} hold in {len(containers)} containers; open ports (S04) and keys (S03) are as they should"


def _outside(project: Project) -> tuple[str, str]:
    """Give address and port of the gateway on the network that backends are not on; this machine reaches it there."""
    networks = project.inspect("gateway")["NetworkSettings"]["Networks"]
    host = networks[f"{project.name}_front"]["IPAddress"]
    port = project.model()["services"]["gateway"]["environment"]["GATEWAY_PORT"]
    socket.create_connection((host, int(port)), CONNECT_S).close()
    return host, port


def _look(project: Project, service: str, outside: tuple[str, str]) -> security.Container:
    connect = f"timeout {CONNECT_S} bash -c '</dev/tcp/{outside[0]}/{outside[1]}' 2>/dev/null && echo reached; true"
    return security.Container(
        service,
        project.inspect(service),
        project.execute(service, "cat", "/proc/1/status"),
        project.execute(service, "sh", "-c", security.PROBE).splitlines(),
        escapes="reached" in project.execute(service, "bash", "-c", connect),
        published=service in GATEWAYS,
    )


def _open_ports(project: Project) -> Iterator[str]:
    """S04: of each backend only the ports that the gateway and Prometheus need."""
    services = project.model()["services"]
    gateway, onnx_svc = (services[name]["environment"] for name in ("gateway", "onnx_svc"))
    expected = {
        "torch_svc": {_port(gateway["TORCH_SVC_ADDR"])},
        "tf_svc": {_port(gateway["TF_SVC_ADDR"])},
        "onnx_svc": {_port(gateway["ONNX_SVC_ADDR"]), onnx_svc["ONNX_SVC_METRICS_PORT"]},
    }
    for service, ports in expected.items():
        found = set(project.execute("gateway", "python", "-c", SCAN, service, timeout_s=120).split())
        if found != ports:
            yield f"{service}: S04: listens on {', '.join(sorted(found)) or 'nothing'}, not {', '.join(sorted(ports))}"


def _port(address: str) -> str:
    return address.rpartition(":")[2]


def _leaked_keys(project: Project) -> Iterator[str]:
    """S03: TorchServe's key is in the shared file alone."""
    key = project.execute("torch_svc", "cat", "/run/tokens/token")
    for service in SERVICES:
        log = project.ask("logs", "--no-color", service)
        settings = project.docker("inspect", project.container(service))
        for place, text in (("log", log), ("settings", settings)):
            if not key or key in text:
                yield f"{service}: S03: the key is in its {place}"


def load(stand: Stand) -> Iterator[str]:
    """Load every path from outside, with `make loadtest`."""
    words = [f"TARGETS=gateway={stand.addresses['gateway']}", "ENVIRONMENT=compose, load from outside", *LOAD]
    latest = ROOT / "results" / "latest"
    before = latest.resolve()
    subprocess.run(
        ["make", "--silent", "loadtest", *words],
        cwd=ROOT,
        timeout=LOAD_S,
        check=False,  # it fails, too, when the machine was too busy for its times to be trusted
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    )
    if latest.resolve() == before:
        raise EngineError("make loadtest has left no results")
    yield _judged(latest.resolve(), "compose, load from outside")


def load_inside(stand: Stand) -> Iterator[str]:
    """Load every path from containers, directly too: Locust's master and a worker, their rows copied out."""
    inside = replace(stand.project, profiles=("loadtest",))
    inside.ask(
        "up", "--detach", "--no-deps", "--no-build", "--pull", "never", "loadtest", "loadtest_worker", timeout_s=60
    )
    master = inside.container("loadtest")
    code = inside.docker("wait", master, timeout_s=LOAD_S)
    if code != "0":
        raise EngineError(f"loadtest: {(inside.docker('logs', '--tail', '1', master) or 'it said nothing')} ({code})")
    run = _copy_results(inside, master)
    subprocess.run([sys.executable, "-m", "report", str(run)], cwd=ROOT, timeout=LOAD_S, check=False, stdout=sys.stderr)
    yield _judged(run, "compose, load from inside")


def _copy_results(inside: Project, master: str) -> Path:
    results = ROOT / "results"
    results.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=results) as folder:
        inside.docker("cp", f"{master}:/results/.", folder)
        run = (Path(folder) / "latest").resolve()
        return run.rename(results / run.name)


def _judged(run: Path, environment: str) -> str:
    """Give what a run's summary says. Raises EngineError for one call that failed or was answered wrongly."""
    facts, summary = (json.loads((run / name).read_text()) for name in ("run.json", "summary.json"))
    if facts["fairness"]["run"]["environment"]["value"] != environment or not facts["complete"]:
        raise EngineError(f"{run} is not the run that was asked for, or did not end")
    rows = summary["paths"]
    bad = [
        f"{row['model']}@{row['stack']}" for row in rows if row["errors"] or row["wrong_answers"] or not row["requests"]
    ]
    if bad or not rows:
        raise EngineError(f"load test {run.name}: errors, wrong answers or nothing at {', '.join(bad) or 'all'}")
    trusted = "valid" if summary["valid"] else f"times not to be trusted: {summary['reasons'][0]}"
    return f"{len(rows)} rows, {sum(row['requests'] for row in rows):,} right answers, no error; {trusted}; {run}"


def killed(stand: Stand) -> Iterator[str]:
    """Kill each service's process with SIGKILL: its container comes back by itself, and every path answers again."""
    for service in SERVICES:
        before = stand.project.inspect(service)
        begin = time.monotonic()
        _kill(stand.project, service, before["State"]["Pid"])
        _until(partial(_restarted, stand.project, service, before["RestartCount"]), service)
        _until(partial(_all_right, stand), service)
        yield f"{service}: killed, restarted, and every path right again after {time.monotonic() - begin:.1f} s"


def _kill(project: Project, service: str, pid: int) -> None:
    """Kill TorchServe's JVM from inside; elsewhere the first process, which inside nobody can kill, from outside."""
    if service == "torch_svc":
        project.execute(service, "python", "-c", KILL_JAVA)
    else:
        os.kill(pid, signal.SIGKILL)


def _restarted(project: Project, service: str, count: int) -> bool:
    return bool(project.inspect(service)["RestartCount"] > count)


def _all_right(stand: Stand) -> bool:
    try:
        return bool(_ask_all(stand))
    except EngineError:
        return False


def _until(condition: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + RECOVER_S
    while not condition():
        if time.monotonic() > give_up:
            raise EngineError(f"{what} did not come back within {RECOVER_S:g} s")
        time.sleep(POLL_S)


def rolled(stand: Stand) -> Iterator[str]:
    """Replace one gateway after the other while callers that know both go on asking: no call fails."""
    project = replace(stand.project, profiles=("two-gateways",))
    project.up("gateway_2")
    paths = list(_ask_all(stand))
    with calling(list(stand.addresses.values()), EXPORTS, paths) as callers:
        for service in GATEWAYS:
            old = project.container(service)
            project.up(service, recreate=True)
            if project.container(service) == old:
                raise EngineError(f"{service} was not replaced")
    failed = {outcome: count for outcome, count in callers.outcomes.items() if outcome != "OK"}
    if failed or not callers.outcomes["OK"]:
        raise EngineError(f"calls failed while the gateways were replaced: {failed}, {callers.outcomes['OK']} did not")
    yield f"both gateways replaced, {callers.outcomes['OK']:,} calls, no error"


def observed(stand: Stand) -> Iterator[str]:
    """Start Prometheus and Grafana where they can be had: one must reach all targets, one have the dashboard."""
    variables = read_variables(ROOT, {**os.environ, **stand.project.settings})
    project = replace(stand.project, profiles=("observability",))
    for service, ask in SCREENS.items():
        image = variables[f"{service.upper()}_IMAGE"]
        try:
            ensure_base(project.engine, image)
        except EngineError:
            yield f"{image}: NOT TESTED (it cannot be had)"
            continue
        project.up(service)
        _until(partial(_answered, ask, variables[f"{service.upper()}_PORT"]), service)
        yield f"{image}: {SCREENS_SAY[service]}"


def _answered(ask: Callable[[str], bool], port: str) -> bool:
    try:
        return ask(port)
    except OSError:
        return False


def _targets_up(port: str) -> bool:
    with urlopen(f"http://127.0.0.1:{port}/api/v1/targets", timeout=CONNECT_S) as reply:
        targets = json.load(reply)["data"]["activeTargets"]
    jobs = {target["labels"]["job"] for target in targets}
    return jobs == {"gateway", "onnx_svc"} and all(target["health"] == "up" for target in targets)


def _dashboard_there(port: str) -> bool:
    with urlopen(f"http://127.0.0.1:{port}/api/dashboards/uid/servepath", timeout=CONNECT_S) as reply:
        return bool(json.load(reply)["dashboard"]["panels"])


SCREENS: Mapping[str, Callable[[str], bool]] = {"prometheus": _targets_up, "grafana": _dashboard_there}
SCREENS_SAY = {"prometheus": "reaches gateways and onnx_svc", "grafana": "has the dashboard"}
STAGES: tuple[tuple[str, Callable[[Stand], Iterator[str]]], ...] = (
    ("build", build),
    ("up", start),
    ("answers", answers),
    ("security", secure),
    ("load from outside", load),
    ("load from inside", load_inside),
    ("kill -9", killed),
    ("rolling restart", rolled),
    ("observability", observed),
)

"""Load tests of the containers: from outside through the gateway, and from inside, where every path is in reach."""

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from deploy.compose import ROOT, Project
from deploy.e2e.environment import Environment
from deploy.engine import EngineError
from servepath.cli.children import run_and_wait

LOAD_S = 600.0
UP_S = 60.0
# Short: that every answer is right is what it is for, not the times.
LOAD = ("RATE=300", "ROUNDS=2", "SEED=1")


def load(environment: Environment) -> Iterator[str]:
    """Load every path from outside, with `make loadtest`."""
    command = [f"TARGETS=gateway={environment.addresses['gateway']}", "ENVIRONMENT=compose, load from outside", *LOAD]
    latest = ROOT / "results" / "latest"
    before = latest.resolve()
    # It fails, too, when the machine was too busy for its times to be trusted.
    run_and_wait(["make", "--silent", "loadtest", *command], folder=ROOT, stdout=sys.stderr.fileno(), limit_s=LOAD_S)
    if latest.resolve() == before:
        raise EngineError("make loadtest wrote no results")
    yield judged(latest.resolve(), "compose, load from outside")


def load_inside(environment: Environment) -> Iterator[str]:
    """Load every path from containers, directly too: Locust's master and a worker, their rows copied out."""
    inside = replace(environment.project, profiles=(*environment.project.profiles, "loadtest"))
    command = ("up", "--detach", "--no-deps", "--no-build", "--pull", "never")
    inside.ask(*command, "loadtest", "loadtest_worker", timeout_s=UP_S)
    master = inside.container("loadtest")
    code = inside.docker("wait", master, timeout_s=LOAD_S)
    if code != "0":
        raise EngineError(f"load test: exit code {code}: {inside.ask('logs', '--no-color', '--tail', '1', 'loadtest')}")
    run = _copy_results(inside, master)
    report = [sys.executable, "-m", "report", str(run)]
    run_and_wait(report, folder=ROOT, stdout=sys.stderr.fileno(), limit_s=LOAD_S)
    yield judged(run, "compose, load from inside")


def _copy_results(inside: Project, master: str) -> Path:
    results = ROOT / "results"
    results.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=results) as folder:
        inside.docker("cp", f"{master}:/results/.", folder)
        run = (Path(folder) / "latest").resolve()
        return run.rename(results / run.name)


def judged(run: Path, environment: str) -> str:
    """Return a run's summary in a line. Raises EngineError for one failed call or incorrect response."""
    facts, summary = (json.loads((run / name).read_text()) for name in ("run.json", "summary.json"))
    if facts["fairness"]["run"]["environment"]["value"] != environment or not facts["complete"]:
        raise EngineError(f"{run} is not the requested run, or is incomplete")
    rows = summary["paths"]
    bad = [
        f"{row['model']}@{row['stack']}" for row in rows if row["errors"] or row["wrong_answers"] or not row["requests"]
    ]
    if bad or not rows:
        raise EngineError(f"load test {run.name}: errors, incorrect responses or no rows at {', '.join(bad) or 'all'}")
    trusted = "valid" if summary["valid"] else f"times are not valid: {summary['reasons'][0]}"
    return (
        f"{len(rows)} rows, {sum(row['requests'] for row in rows):,} correct responses, no error; {trusted}; {run.name}"
    )

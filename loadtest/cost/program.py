"""The order of measuring: each service alone, started several times, quiet, loaded; then all, and the gateway."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console

from loadtest.cost import process_tree
from loadtest.cost.gpu import Gpus
from loadtest.cost.load import Measurement, Plan, load
from loadtest.cost.startup import Name, start, stop
from servepath.protocols.stacks import PATH_STACKS
from servepath.runner import processes
from servepath.runner.config import BACKENDS, GATEWAY, RunPaths, Service
from servepath.runner.processes import RunError, ServiceFiles
from servepath.runner.progress import PlainProgress
from servepath.runner.up import GRACE_S, Runner, stop_all

READY_S = 120.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What all measurements share. starts: new processes of each service. quiet_s: before idle memory is read."""

    services: Mapping[str, Service]
    run_paths: RunPaths
    plan: Plan
    gpus: Gpus | None
    starts: int
    quiet_s: float
    console: Console

    def say(self, what: str) -> None:
        """Show progress."""
        self.console.print(what, highlight=False, markup=False, soft_wrap=True)

    def files(self, service: str) -> ServiceFiles:
        """Return the files of a service."""
        return ServiceFiles(self.run_paths.run_dir, service)

    def pss_bytes(self, service: str) -> int:
        """Return the memory of all processes of a service now."""
        return process_tree.pss_bytes(process_tree.pids(self.files(service)))


@dataclass(frozen=True, slots=True)
class Life:
    """A backend's, alone on the machine. starts: seconds to the first right answer of each path, by new process.

    *_bytes: PSS. measurements: of its paths, reached directly. pids: those that were loaded.
    """

    starts: Sequence[Mapping[Name, float]]
    idle_bytes: int
    loaded_bytes: int
    measurements: Sequence[Measurement]
    pids: frozenset[int]


@dataclass(frozen=True, slots=True)
class GatewayCost:
    """The gateway's, with the backends behind it. measurements: of all paths, reached through it."""

    idle_bytes: int
    loaded_bytes: int
    measurements: Sequence[Measurement]


def backends_of(names: Sequence[Name]) -> dict[str, list[Name]]:
    """Return the paths of each backend, in the order of starting."""
    of = {service: [name for name in names if PATH_STACKS[name[1]].service == service] for service in BACKENDS}
    return {service: paths for service, paths in of.items() if paths}


def lives(bench: Bench, backends: Mapping[str, Sequence[Name]]) -> dict[str, Life]:
    """Measure each backend alone. Raises RunError, WrongAnswer, LoadError or ArtifactError; nothing runs then."""
    return {service: _life(bench, service, names) for service, names in backends.items()}


def front(bench: Bench, backends: Mapping[str, Sequence[Name]]) -> GatewayCost:
    """Measure the gateway before its backends. Raises as `lives` does."""
    chosen = [*backends, GATEWAY]
    names = [name for paths in backends.values() for name in paths]
    with stopping(bench, chosen):
        Runner(bench.services, bench.run_paths, READY_S, PlainProgress(bench.console)).start(chosen)
        time.sleep(bench.quiet_s)
        idle = bench.pss_bytes(GATEWAY)
        bench.say(f"gateway: {_words(names)} under load at {bench.plan.rate:g} req/s")
        watched = {service: process_tree.pids(bench.files(service)) for service in chosen}
        measurements = load(bench.plan, _texts(names), "gateway", watched, None)
        return GatewayCost(idle, bench.pss_bytes(GATEWAY), measurements)


@contextmanager
def stopping(bench: Bench, services: Sequence[str]) -> Iterator[None]:
    """Stop services in the end, whatever happens."""
    try:
        yield
    finally:
        stop_all(bench.run_paths, services, GRACE_S)


def refuse_running(run_paths: RunPaths) -> None:
    """Raise RunError when a service runs already: it would share memory and cores with what is measured."""
    found = [name for name in (*BACKENDS, GATEWAY) if processes.main_process(ServiceFiles(run_paths.run_dir, name))]
    if found:
        raise RunError(f"already running: {', '.join(found)}; it would share memory and cores; run: make down")


def _life(bench: Bench, service: str, names: Sequence[Name]) -> Life:
    with stopping(bench, [service]):
        starts = list(_starts(bench, service, names))
        time.sleep(bench.quiet_s)
        idle, pids = bench.pss_bytes(service), process_tree.pids(bench.files(service))
        bench.say(f"{service}: {_words(names)} under load at {bench.plan.rate:g} req/s, directly")
        measurements = load(bench.plan, _texts(names), "direct", {service: pids}, bench.gpus)
        return Life(starts, idle, bench.pss_bytes(service), measurements, frozenset(pids))


def _starts(bench: Bench, service: str, names: Sequence[Name]) -> Iterator[dict[Name, float]]:
    """Start a service again and again; the last process goes on running."""
    files = bench.files(service)
    for number in range(1, bench.starts + 1):
        took_s = start(bench.services[service], files, bench.run_paths.exports, names)
        bench.say(f"{service}: start {number} of {bench.starts}, correct after {max(took_s.values()):.2f} s")
        yield took_s
        if number < bench.starts:
            stop([files])


def _texts(names: Sequence[Name]) -> list[str]:
    return [f"{model}@{stack}" for model, stack in names]


def _words(names: Sequence[Name]) -> str:
    return " and ".join(_texts(names)) if len(names) < 3 else f"{len(names)} paths"  # noqa: PLR2004

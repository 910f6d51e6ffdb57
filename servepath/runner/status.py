"""What runs, since when, on which ports, and whether it answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from rich.console import Console
from rich.table import Table

from servepath.artifacts.manifest import ArtifactError
from servepath.protocols.probes import WrongAnswer
from servepath.runner import processes
from servepath.runner.config import GATEWAY, RunPaths, Service
from servepath.runner.probe import Probe
from servepath.runner.processes import ServiceFiles
from servepath.runner.up import answered, ask_paths

READY = "yes"


@dataclass(frozen=True, slots=True)
class State:
    """One service, or an external server. pid: empty when it does not run. ready: "yes" or why not."""

    service: str
    pid: str
    since: str
    ports: str
    ready: str


def states(
    services: Mapping[str, Service], run_paths: RunPaths, external: Mapping[str, tuple[str, str]]
) -> list[State]:
    """Return the state of every service and external server; a running one is probed with a prediction on each path."""
    with Probe(services[GATEWAY].address, run_paths.exports) as probe:
        ours = [_state(service, ServiceFiles(run_paths.run_dir, service.name), probe) for service in services.values()]
        others = [State(name, "", "", address, _readiness(name, probe)) for name, (_, address) in external.items()]
        return ours + others


def show(found: list[State]) -> bool:
    """Print the table and say whether every service is ready."""
    table = Table("service", "pid", "up since", "ports", "ready")
    for state in found:
        table.add_row(state.service, state.pid, state.since, state.ports, state.ready)
    Console().print(table, highlight=False, markup=False)
    return all(state.ready == READY for state in found)


def _state(service: Service, files: ServiceFiles, probe: Probe) -> State:
    ports = " ".join(str(port) for port in service.ports) or service.address
    process = processes.main_process(files)
    if process is None:
        return State(service.name, "", "", ports, _absence(files))
    since = datetime.fromtimestamp(process.create_time()).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return State(service.name, str(process.pid), since, ports, _readiness(service.name, probe))


def _absence(files: ServiceFiles) -> str:
    if not files.pid_file.exists():
        return "not running"
    return f"dead: pid {files.pid_file.read_text().strip()} has exited; see: make logs, then make up"


def _readiness(name: str, probe: Probe) -> str:
    try:
        why = answered(probe.paths if name == GATEWAY else lambda: ask_paths(probe, name))
    except (WrongAnswer, ArtifactError) as error:
        why = str(error)
    return why or READY

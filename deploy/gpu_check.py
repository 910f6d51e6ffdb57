"""Prove that every service of the GPU compose file computes on the GPU: `python -m deploy.gpu_check` (make gpu-check).

Starts the containers as `docker compose -f docker-compose.yml -f docker-compose.gpu.yml` does and predicts on every
path. Then each service must have a process that holds GPU memory by NVIDIA's own count (nvidia-smi), and an engine that
tells its device must tell a GPU. With --here it looks at the services of `make up` instead, and shows what each path
does. Exit code 0: all do; 1: one does not, or there is no GPU (the reason is printed); 130 after Ctrl-C.
"""

import argparse
import csv
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from deploy import gpu_check_here
from deploy.builder.images import read_variables, tag
from deploy.compose import ROOT, Project, stack_profiles
from deploy.engine import EngineError, engine
from servepath.artifacts.manifest import ArtifactError
from servepath.cli.arguments import Parser, positive
from servepath.cli.signals import STOP_SIGNALS, run_main
from servepath.protocols.deployments import DeploymentsError
from servepath.protocols.deployments_file import read_deployments
from servepath.protocols.probes import NotReady, WrongAnswer
from servepath.protocols.stacks import PATH_STACKS, RUN_DIR, STACKS, Stack
from servepath.runner.config import GATEWAY, RunPaths, read_services
from servepath.runner.probe import Probe
from servepath.settings import SettingsError

NAME = "servepath-gpu-check"
FILES = ("docker-compose.yml", "docker-compose.gpu.yml")
SETTINGS = {"HEALTH_INTERVAL": "3s"}
IMAGES = ("gateway", *(image.name for stack in STACKS.values() for image in stack.images if image.cuda))
QUERY = ("--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits")
DEVICE = ("--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
FAILURES = (
    *(EngineError, ArtifactError, DeploymentsError, SettingsError, NotReady, WrongAnswer),
    *(OSError, subprocess.SubprocessError),
)
SMI_S = 30.0
WIDTH = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuCheckOptions:
    """The command line."""

    here: bool
    run_dir: Path
    exports: Path
    deployments: Path
    seconds: float


def parse_args(argv: Sequence[str]) -> GpuCheckOptions:
    """Read the command line; exit code 2 and one line when it is wrong."""
    parser = Parser(
        prog="servepath gpu-check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--here", action="store_true", help="the services that run on this machine (make up), without containers")
    add("--run-dir", type=Path, default=RUN_DIR, help="of these services (default: .run)")
    add("--exports", type=Path, default=Path("artifacts/exports"), help="default: artifacts/exports")
    add("--deployments", type=Path, default=Path("deployments.toml"), metavar="FILE", help="default: deployments.toml")
    add("--seconds", type=positive, default=2.0, help="of each measurement with --here (default: 2)")
    return parser.read(GpuCheckOptions, argv)


def main(argv: Sequence[str]) -> int:
    """Check, and return the exit code."""
    options = parse_args(argv)
    try:
        if options.here:
            _check_here(options)
        else:
            os.chdir(ROOT)
            program = find_smi()
            with engine() as docker:
                for line in _check(Project(docker, NAME, FILES, SETTINGS, stack_profiles()), program):
                    print(line)
    except FAILURES as error:
        print(f"gpu-check failed: {error}", file=sys.stderr)
        return 1
    print("gpu-check passed: every service computes on the GPU")
    return 0


def _check_here(options: GpuCheckOptions) -> None:
    """Print what each path does, also on a machine without a GPU, and then complain. Raises EngineError and others."""
    try:
        program, why = find_smi(), ""
        device = smi(program, *DEVICE).strip()
    except EngineError as error:
        program, why, device = "", str(error), "no GPU"
    run_paths = RunPaths(options.run_dir.resolve(), options.exports, options.deployments)
    address = read_services(run_paths, Path(".env"))[GATEWAY].address
    memory = memory_by_process(smi(program, *QUERY)) if program else {}
    rows = gpu_check_here.measure(run_paths, address, memory, options.seconds)
    console = Console()
    console.width = max(console.width, WIDTH)  # in a pipe, too
    console.print(gpu_check_here.table(rows, device))
    if complaints := list(filter(None, [why, *(row.on_cpu for row in rows)])):
        raise EngineError("; ".join(complaints))


def find_smi(path: str | None = None) -> str:
    """Return the path of nvidia-smi, having seen it list a GPU. Raises EngineError."""
    program = shutil.which("nvidia-smi", path=path)
    if program is None:
        raise EngineError("there is no NVIDIA GPU, or no driver: nvidia-smi is not installed")
    if not smi(program, "--list-gpus").strip():
        raise EngineError("nvidia-smi lists no GPU")
    return program


def smi(program: str, *command: str) -> str:
    """Return what nvidia-smi prints. Raises EngineError with what it complains about."""
    done = subprocess.run([program, *command], capture_output=True, text=True, timeout=SMI_S, check=False)
    if done.returncode:
        raise EngineError(f"nvidia-smi: {(done.stdout + done.stderr).strip().splitlines()[-1:]}")
    return done.stdout


def images_for(stacks: Collection[Stack]) -> list[str]:
    """Return the images that have to be there: the gateway's, all with CUDA, and those of stacks that have none."""
    return [*IMAGES, *(stack.images[0].name for stack in stacks if not stack.has_cuda)]


def _check(project: Project, program: str) -> list[str]:
    if "nvidia" not in project.docker("info", "--format", "{{json .Runtimes}}"):
        raise EngineError("Docker has no NVIDIA runtime: install the NVIDIA Container Toolkit")
    variables = read_variables()
    stacks = read_deployments(ROOT / "deployments.toml").own_stacks
    missing = [name for name in images_for(stacks) if not project.engine.has(tag(name, variables))]
    if missing:
        raise EngineError(f"{', '.join(missing)} not built: make images IMAGES='{' '.join(missing)}'")
    project.down()
    try:
        project.up()
        _predict(project)
        memory = memory_by_process(smi(program, *QUERY))
        services = [stack.service for stack in stacks if stack.has_cuda]
        processes = {service: _processes(project, service) for service in services}
        return [f"{service}: {mib} MiB of GPU memory" for service, mib in held(processes, memory).items()]
    finally:
        for number in STOP_SIGNALS:  # a second one must not leave half of it behind
            signal.signal(number, signal.SIG_IGN)
        project.down()


def _predict(project: Project) -> None:
    """Predict on every path, so that each has used its device; some engines say which one it was."""
    port = project.model()["services"]["gateway"]["environment"]["GATEWAY_PORT"]
    with Probe(f"127.0.0.1:{port}", ROOT / "artifacts" / "exports") as probe:
        for path in probe.paths():
            served = probe.ask(path).served
            mark = PATH_STACKS[path.stack].cuda_mark if path.stack in PATH_STACKS else ""
            if mark not in served.engine_version:
                raise EngineError(f"{path.name} computes with {served.engine_version}, not {mark}")


def _processes(project: Project, service: str) -> set[int]:
    """Return the process ids of a service, as the host counts them."""
    lines = project.docker("top", project.container(service), "-eo", "pid").splitlines()
    return {int(line) for line in lines[1:]}


def memory_by_process(listing: str) -> dict[int, int]:
    """Return MiB of GPU memory by process id, from nvidia-smi's list; what it cannot count ("[N/A]") is left out."""
    rows = (row for row in csv.reader(listing.splitlines(), skipinitialspace=True) if row)
    return {int(pid): int(mib) for pid, mib in rows if mib.isdecimal()}


def held(processes: Mapping[str, Collection[int]], memory: Mapping[int, int]) -> dict[str, int]:
    """Return MiB of GPU memory by service. Raises EngineError naming every service that holds none."""
    found = {service: sum(memory.get(pid, 0) for pid in pids) for service, pids in processes.items()}
    without = [service for service, mib in found.items() if not mib]
    if without:
        raise EngineError(f"{', '.join(without)} without GPU memory: computing on the CPU")
    return found


if __name__ == "__main__":
    sys.exit(run_main(lambda: main(sys.argv[1:])))

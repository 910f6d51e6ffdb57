"""The containers on a real engine, from nothing to nothing: `python -m deploy.e2e` (make e2e-compose).

Takes the Docker engine that runs here, or starts one (deploy/engine). Exit code 0: every stage did what it should; 1:
one did not, or no engine can be had, with the reason in one line; 2: a bad argument; 130 after Ctrl-C. What it started
is gone in the end, images and results/ stay.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from deploy.builder.images import read_variables
from deploy.compose import Project, stack_profiles
from deploy.e2e.environment import EXPORTS, Environment
from deploy.e2e.stages import STAGES
from deploy.engine import Engine, EngineError, engine, ensure_base
from servepath.artifacts.commit import git_commit
from servepath.cli.arguments import Parser
from servepath.cli.free_ports import free_ports
from servepath.cli.signals import STOP_SIGNALS, run_main
from servepath.protocols.deployments import DeploymentsError
from servepath.protocols.stacks import STACKS

NAME = "servepath-e2e"
EMBEDDED = "docker-compose.embedded.yml"
STOOD_IN = {stack: stack.images[0] for stack in STACKS.values() if stack.images[0].stand_in}
HOST = "127.0.0.1"


def main(argv: Sequence[str]) -> int:
    """Run all stages and return the exit code."""
    parser = Parser(
        "servepath e2e-compose", description="Build, start, predict on, load, kill and replace the containers."
    )
    parser.add_argument("--only", action="append", choices=[name for name, _ in STAGES], help="a stage; repeatable")
    args = parser.parse_args(argv)
    begin = time.monotonic()
    try:
        embedded = _run(args.only or [name for name, _ in STAGES], begin)
    except (EngineError, DeploymentsError, OSError, subprocess.SubprocessError) as error:
        print(f"e2e-compose failed after {time.monotonic() - begin:.0f} s: {error}", file=sys.stderr)
        return 1
    print(f"e2e-compose passed in {time.monotonic() - begin:.0f} s; nothing is left behind")
    if embedded:
        print(*(f"{stack.name} image: NOT TESTED (embedded)" for stack in STOOD_IN), sep="\n")
    return 0


def _run(wanted: Sequence[str], begin: float) -> bool:
    """Run the stages; say whether stand-ins were tested. Raises EngineError."""
    if not EXPORTS.is_dir():
        raise EngineError(f"{EXPORTS} is missing: make train export")
    links = _links()
    with engine() as docker:
        print(f"Docker Engine {docker.version}, {'our own, started for this run' if docker.own else 'which runs here'}")
        with _stand(docker) as environment:
            for name, stage in STAGES:
                if name in wanted:
                    for line in stage(environment):
                        print(f"[{time.monotonic() - begin:5.0f} s] {name}: {line}", flush=True)
    if docker.own:
        _gone(docker, links)
    return environment.embedded


@contextlib.contextmanager
def _stand(docker: Engine) -> Iterator[Environment]:
    """Yield the project on free ports, and remove all of it at the end. Raises EngineError when something stays."""
    embedded = not _official(docker)
    gateway, gateway_2, prometheus, grafana = map(str, free_ports(4))
    settings = {
        "SERVEPATH_TAG": "e2e",
        "COMMIT": git_commit(),
        "GATEWAY_PORT": gateway,
        "GATEWAY_2_PORT": gateway_2,
        "PROMETHEUS_PORT": prometheus,
        "GRAFANA_PORT": grafana,
        "SERVICE_CPUS": str(min(2, os.cpu_count() or 1)),
        "HEALTH_INTERVAL": "3s",
        "LOADTEST_WORKERS": "2",
        "LOADTEST_OPTIONS": "--seed 1 --rate 300 --rounds 2 --warmup 3",
    }
    files = ["docker-compose.yml", *([EMBEDDED] if embedded else [])]
    project = Project(docker, NAME, files, settings, stack_profiles())
    addresses = {"gateway": f"{HOST}:{gateway}", "gateway_2": f"{HOST}:{gateway_2}"}
    project.down()  # what a killed one left
    try:
        yield Environment(project, addresses, embedded)
    finally:
        for number in STOP_SIGNALS:  # a second one must not leave half of it behind
            signal.signal(number, signal.SIG_IGN)
        project.down()
    if project.left():
        raise EngineError(f"left behind: {', '.join(project.left())}")


def _official(docker: Engine) -> bool:
    """Return whether the products' own images are available."""
    variables = read_variables()
    try:
        for image in STOOD_IN.values():
            ensure_base(docker, variables[image.base])
    except EngineError as error:
        print(f"{image.stand_in} instead of {image.name}, since {error}")
        return False
    return True


def _links() -> set[str]:
    return {link.name for link in Path("/sys/class/net").iterdir()}


def _gone(docker: Engine, links: set[str]) -> None:
    """Raise EngineError when a process, mount or link of our own engine is still there, unless others use it.

    links: those that were there before.
    """
    folder = str(Path(docker.host.removeprefix("unix://")).parent)
    if Path(docker.host.removeprefix("unix://")).exists():
        return  # somebody else uses it now
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    left = [mount for mount in mounts if mount.startswith(f"{folder}/")]
    left += [link for link in _links() - links if link.startswith(("docker", "br-", "veth"))]
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if folder.encode() in cmdline.read_bytes() and cmdline.parent.name != str(os.getpid()):
                left.append(f"process {cmdline.parent.name}")
    if left:
        raise EngineError(f"left behind by the engine: {', '.join(left)}")


if __name__ == "__main__":
    sys.exit(run_main(lambda: main(sys.argv[1:]), "e2e-compose interrupted; everything it started is removed"))

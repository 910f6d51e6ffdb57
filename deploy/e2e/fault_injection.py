"""What is done to running containers: each is killed, and gateways are replaced under load."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from deploy.compose import Project
from deploy.e2e.clients import calling
from deploy.e2e.environment import EXPORTS, GATEWAYS, Environment, ask_all, until
from deploy.engine import EngineError
from servepath.protocols.stacks import STACKS

# Ends every process of a name from inside, as the service's own user may.
KILL_BY_NAME = """
import contextlib, os, pathlib, sys
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    with contextlib.suppress(OSError):
        if (folder / "comm").read_text().strip() == sys.argv[1]:
            os.kill(int(folder.name), 9)
"""
ENGINES = {stack.service: stack.engine_process for stack in STACKS.values()}


def killed(environment: Environment) -> Iterator[str]:
    """Kill each service's process with SIGKILL: its container comes back by itself, and every path answers again."""
    for service in environment.services:
        before = environment.project.inspect(service)
        begin = time.monotonic()
        _kill(environment.project, service, before["State"]["Pid"])
        until(partial(_restarted, environment.project, service, before["RestartCount"]), service)
        until(partial(_all_right, environment), service)
        yield f"{service}: killed, restarted, and every path correct again after {time.monotonic() - begin:.1f} s"


def _kill(project: Project, service: str, pid: int) -> None:
    """Kill the engine from inside where it is a child; elsewhere the first process, which inside nobody can kill."""
    if engine := ENGINES.get(service):
        project.execute(service, "python", "-c", KILL_BY_NAME, engine)
    elif _is_here(project, service, pid):
        os.kill(pid, signal.SIGKILL)
    else:
        raise EngineError(f"{service} runs on another machine, or in a virtual one: it cannot be killed from here")


def _is_here(project: Project, service: str, pid: int) -> bool:
    """Return whether the process that the engine names runs on this machine."""
    try:
        here = Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False
    return here.strip() == project.execute(service, "cat", "/proc/1/cmdline")


def _restarted(project: Project, service: str, count: int) -> bool:
    return bool(project.inspect(service)["RestartCount"] > count)


def _all_right(environment: Environment) -> bool:
    try:
        return bool(ask_all(environment))
    except EngineError:
        return False


def rolled(environment: Environment) -> Iterator[str]:
    """Replace one gateway after the other while callers that know both go on asking: no call fails."""
    project = replace(environment.project, profiles=(*environment.project.profiles, "two-gateways"))
    project.up("gateway_2")
    paths = list(ask_all(environment))
    with calling(list(environment.addresses.values()), EXPORTS, paths) as clients:
        for service in GATEWAYS:
            old = project.container(service)
            project.up(service, recreate=True)
            if project.container(service) == old:
                raise EngineError(f"{service} was not replaced")
    failed = {outcome: count for outcome, count in clients.outcomes.items() if outcome != "OK"}
    if failed or not clients.outcomes["OK"]:
        raise EngineError(f"calls failed while the gateways were replaced: {failed}, {clients.outcomes['OK']} did not")
    yield f"both gateways replaced, {clients.outcomes['OK']:,} calls, no error"

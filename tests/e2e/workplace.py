"""A folder from which every command runs as from a checkout, with artifacts, ports and pid files of its own."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from servepath.runner.config import SERVICES
from servepath.runner.processes import ServiceFiles, main_process
from tests.e2e.real_stack import free_ports
from tests.limits import LONG_S

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "client.py",
    "deploy",
    "export",
    "loadtest",
    "models",
    "report",
    "servepath",
    "servepath_pb",
    "services",
    "training",
)
COMMAND_S = LONG_S
# In which what has been killed is gone.
ENDS_S = 60.0


@dataclass(frozen=True)
class Workplace:
    """Where commands run. environment: theirs; .env has the free ports."""

    folder: Path
    environment: dict[str, str]

    def start(self, *command: str, **environment: str) -> "subprocess.Popen[str]":
        """Start `python -m WORDS`; output and errors come together."""
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=self.folder,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *words: str, **environment: str) -> tuple[int, str]:
        """Run `python -m WORDS` and return its exit code and what it printed."""
        with self.start(*words, **environment) as process:
            text, _ = process.communicate(timeout=COMMAND_S)
        return process.returncode, text

    def run_until_0(self, *words: str) -> str:
        """Run `python -m WORDS` until its exit code is 0; return what it printed then.

        Of commands that wait for a service less long than it may take to answer on a busy machine.
        """
        end = time.monotonic() + LONG_S
        while True:
            code, text = self.run(*words)
            if code == 0:
                return text
            assert time.monotonic() < end, text
            time.sleep(1)

    def files(self, service: str) -> ServiceFiles:
        return ServiceFiles((self.folder / ".run").resolve(), service)

    def process(self, service: str) -> psutil.Process | None:
        return main_process(self.files(service))

    def left(self) -> list[psutil.Process]:
        """Return every process that a command left behind and that goes on: all work in this folder or below it."""
        end = time.monotonic() + ENDS_S
        while (found := self._living()) and time.monotonic() < end:
            time.sleep(0.1)
        return found

    def _living(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if works_in(process, self.folder)]


def works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(folder.resolve())
    except (psutil.Error, OSError):
        return False


def make(folder: Path) -> Workplace:
    """Make a workplace in an empty folder."""
    for package in PACKAGES:
        (folder / package).symlink_to(ROOT / package)
    (folder / "deployments.toml").symlink_to(ROOT / "deployments.toml")
    ports = free_ports()
    addresses = {name.replace("_PORT", "_ADDR"): f"127.0.0.1:{ports[name]}" for name in ports if name in OWN_PORTS}
    lines = (f"{name}={value}\n" for name, value in (ports | addresses).items())
    (folder / ".env").write_text("".join(lines))
    ours = (ports | addresses).keys() | {"TORCH_SVC_TOKEN_FILE"}
    return Workplace(folder, {name: value for name, value in os.environ.items() if name not in ours})


OWN_PORTS = frozenset(f"{service.upper()}_PORT" for service in SERVICES)

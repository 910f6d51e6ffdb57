"""A small repository that has what the gate needs of ours, and a stand-in for `python -m servepath.runner`."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.integration.loadtest.conftest import write_reference
from tests.limits import LONG_S

ROOT = Path(__file__).parents[3]
PARTS = ("__init__.py", "settings.py", "artifacts", "cli", "http2", "protocols", "results")
LINKS = ("loadtest", "report", "servepath_pb", "tests", *(f"servepath/{part}" for part in PARTS))
IDENTITY = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "core.hooksPath=/dev/null")
# `up` starts one server, which answers as servepath/runner/behaviour.json says; `down` stops it.
STAND_IN = """
import contextlib, os, signal, socket, subprocess, sys, time
from pathlib import Path

command, place = sys.argv[1], Path(sys.argv[sys.argv.index("--run-dir") + 1])
if command == "up":
    place.mkdir(parents=True)
    server = subprocess.Popen([sys.executable, "-m", "servepath.runner.server"], start_new_session=True)
    (place / "pid").write_text(str(server.pid))
    host, _, port = os.environ["ONNX_SVC_ADDR"].rpartition(":")
    while server.poll() is None:
        try:
            socket.create_connection((host, int(port)), 1).close()
            break
        except OSError:
            time.sleep(0.05)
    sys.exit(server.poll() or 0)
elif (place / "pid").exists():
    with contextlib.suppress(ProcessLookupError):
        os.kill(int((place / "pid").read_text()), signal.SIGTERM)
"""
SERVER = """
import json, os
from pathlib import Path
from tests.integration.loadtest.conftest import Behaviour, serve

behaviour = Behaviour(**json.loads(Path("servepath/runner/behaviour.json").read_text()))
serve(behaviour, os.environ["ONNX_SVC_ADDR"])[0].wait_for_termination()
"""
FILES = {
    "servepath/runner/__init__.py": "",
    "servepath/runner/__main__.py": STAND_IN,
    "servepath/runner/server.py": SERVER,
    "servepath/runner/behaviour.json": '{"engine_version": "committed"}',
    "export/format.py": "",
    "deployments.toml": "[models.line]\ndefault = 'onnx'\n[models.line.stacks.onnx]\n",
    "constraints.txt": "",
    "pyproject.toml": "",
    ".gitignore": "artifacts/\nresults/\n__pycache__/\n.venv\nmade\n",
    "Makefile": ".PHONY: export\nsetup train export:\n\t@echo $@ >> made\n",
}


@dataclass(frozen=True)
class MadeUp:
    """The repository, and a folder for temporary files that the gate must leave empty."""

    folder: Path
    temporary: Path

    def git(self, *command: str) -> str:
        done = subprocess.run(
            ["git", "-C", self.folder, *IDENTITY, *command], capture_output=True, text=True, check=True, timeout=LONG_S
        )
        return done.stdout.strip()

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def start(self, *command: str) -> "subprocess.Popen[str]":
        """Start `python -m WORDS`; output and errors come together."""
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=self.folder,
            env=os.environ | {"TMPDIR": str(self.temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def make(folder: Path) -> MadeUp:
    """Make the repository with one commit, and exports of its one model."""
    made = MadeUp(folder / "repository", folder / "temporary")
    made.temporary.mkdir()
    for name, text in FILES.items():
        made.write(name, text)
    for name in LINKS:
        (made.folder / name).symlink_to(ROOT / name)
    made.write(".env", (ROOT / ".env").read_text())
    made.git("init", "-q")
    made.git("add", "-A")
    made.git("commit", "-q", "-m", "m")
    write_reference(made.folder / "artifacts/exports")
    return made

"""One side's services, the default's or the candidate's, started by the command that applies tuned settings."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from loadtest.config import inherited
from loadtest.gate.sides import DOWN_S, Side, side_of
from loadtest.gate.trees import Tree
from loadtest.priority import ordinary
from loadtest.tune.bench import StartError
from loadtest.workers import InterruptedRun, Interruption
from servepath.protocols import tuned
from servepath.protocols.tuned import Tuned

POLL_S = 0.05
LAST_LINES = 3


@dataclass(slots=True)
class Servers:
    """Services on ports of their own. names: which, the gateway among them. deployments: the list of paths."""

    side: Side
    names: Sequence[str]
    deployments: Path
    interruption: Interruption

    def start(self, settings: Tuned | None) -> None:
        """Start what does not run, with these settings, and wait until every path answers correctly.

        Raises StartError, or InterruptedRun once what was started is stopped.
        """
        words = ["up", *self.names, *self._places()]
        if settings is not None and settings.settings:
            folder = self.side.run_dir / "candidate"
            shutil.rmtree(folder, ignore_errors=True)  # one of another precision may be there
            folder.mkdir(parents=True)
            tuned.file_of(folder, settings.path).write_text(settings.to_toml())
            words += ["--tuned", f"--tuned-folder={folder}"]
        code, said = self._run(words, stops=True)
        if self.interruption.event.is_set():
            raise InterruptedRun
        if code:
            raise StartError(" ".join(" ".join(line.split()) for line in said.splitlines()[-LAST_LINES:]))

    def stop(self, names: Sequence[str] = ()) -> None:
        """Stop services, all of them unless some are named."""
        self._run(["down", *(names or self.names), *self._places()], stops=False)

    def pids(self) -> list[int]:
        """Return the processes of all services. Raises psutil.Error or OSError where one has ended."""
        mains = [int((self.side.run_dir / f"{name}.pid").read_text()) for name in self.names]
        found = [psutil.Process(pid) for pid in mains]
        return [each.pid for main in found for each in (main, *main.children(recursive=True))]

    def _places(self) -> list[str]:
        side = self.side
        return [f"--run-dir={side.run_dir}", f"--exports={side.tree.exports}", f"--deployments={self.deployments}"]

    def _run(self, words: Sequence[str], *, stops: bool) -> tuple[int, str]:
        """Run a command of the runner; return its exit code and output. One that `stops` ends early when told to."""
        with tempfile.TemporaryFile() as output:
            with ordinary():
                process = subprocess.Popen(
                    [str(self.side.tree.python), "-m", "servepath.runner", *words],
                    env=environment_of(self.side),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    process_group=0,  # the terminal's Ctrl-C reaches us alone
                )
            try:
                while process.poll() is None:
                    if self.interruption.event.wait(POLL_S) and stops:
                        process.terminate()
                        stops = False
                    elif self.interruption.event.is_set():
                        process.wait(DOWN_S)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            output.seek(0)
            return process.returncode, output.read().decode(errors="replace")


def side_in(folder: Path, name: str, exports: Path) -> Side:
    """Return a side on free ports, with its files in FOLDER/NAME; its addresses are written to FOLDER/NAME.env."""
    side = side_of(Tree(name, Path.cwd(), Path(sys.executable), exports.absolute()), folder / name)
    (folder / f"{name}.env").write_text(side.file())
    return side


def environment_of(side: Side) -> Mapping[str, str]:
    """Return the environment of a side's services: ours, with its ports and without tuned settings of ours."""
    return {**inherited(without=("MAKE", "MFLAGS", tuned.VARIABLE)), **side.variables}

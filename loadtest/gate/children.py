"""Programs of either tree as children; what they cannot do is a GateError."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from servepath.cli.children import run_and_wait

QUICK_S = 60.0


class GateError(Exception):
    """The gate cannot do its work; the text names what is missing or failed, and the fix."""


@dataclass(frozen=True, slots=True)
class Shell:
    """Where programs run: a folder, and their whole environment."""

    folder: Path
    environment: Mapping[str, str]

    def run(self, *command: str, limit_s: float | None = None, passing: Sequence[int] = (0,)) -> int:
        """Run a program to its end, its output passing through, and return its exit code.

        Raises GateError when the code is not in `passing`, the program is missing, or it takes longer than `limit_s`
        seconds (None: it has limits of its own); KeyboardInterrupt once it has ended.
        """
        return self._run_and_wait(command, limit_s, passing)[0]

    def output(self, *command: str, passing: Sequence[int] = (0,)) -> tuple[int, str]:
        """Return exit code and output of a quick program. Raises as `run` does."""
        return self._run_and_wait(command, QUICK_S, passing, stdout=subprocess.PIPE)

    def _run_and_wait(
        self, command: Sequence[str], limit_s: float | None, passing: Sequence[int], stdout: int | None = None
    ) -> tuple[int, str]:
        where, variables = self.folder, self.environment
        try:
            code, text = run_and_wait(command, folder=where, environment=variables, stdout=stdout, limit_s=limit_s)
        except subprocess.TimeoutExpired:
            raise GateError(f"{' '.join(command)} did not end within {limit_s:g} s") from None
        except OSError as error:
            raise GateError(f"cannot run {command[0]}: {error.strerror}") from error
        if code not in passing:
            raise GateError(f"{' '.join(command)} ended with exit code {code}; see above")
        return code, text

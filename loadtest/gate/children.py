"""Programs of either tree as children: Ctrl-C ends the child, which is waited for, and then the gate."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ENDINGS = (signal.SIGINT, signal.SIGTERM)
# How long a child may take to clean up after Ctrl-C: services drain for up to 30 s.
CLEANUP_S = 60.0
QUICK_S = 60.0


class GateError(Exception):
    """The gate cannot do its work; the text names what is missing or failed, and the mend."""


@dataclass(frozen=True, slots=True)
class Shell:
    """Where programs run: a folder, and their whole environment."""

    folder: Path
    environment: Mapping[str, str]

    def run(self, *command: str, limit_s: float | None = None, passing: Sequence[int] = (0,)) -> int:
        """Run a program to its end, its output passing through, and give its exit code.

        Raises GateError when the code is not in `passing`, the program is missing, or it takes longer than `limit_s`
        seconds (None: it has limits of its own); KeyboardInterrupt once it has ended.
        """
        return _to_the_end(self, command, limit_s, passing)[0]

    def output(self, *command: str, passing: Sequence[int] = (0,)) -> tuple[int, str]:
        """Give exit code and output of a quick program. Raises as `run` does."""
        return _to_the_end(self, command, QUICK_S, passing, stdout=subprocess.PIPE)


def _to_the_end(
    shell: Shell, command: Sequence[str], limit_s: float | None, passing: Sequence[int], stdout: int | None = None
) -> tuple[int, str]:
    process = _start(shell, command, stdout)
    try:
        _listen()
        text, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        _interrupt(process)
        raise GateError(f"{' '.join(command)} did not end within {limit_s:g} s") from None
    except BaseException:
        _interrupt(process)
        raise
    finally:
        if process.stdout is not None:
            process.stdout.close()
        _signal(process, signal.SIGKILL)  # one that was killed may leave its own children
    if process.returncode not in passing:
        raise GateError(f"{' '.join(command)} ended with exit code {process.returncode}; see above")
    return process.returncode, text or ""


def _start(shell: Shell, command: Sequence[str], stdout: int | None) -> "subprocess.Popen[str]":
    # Ctrl-C is held back while the child is being born: in between, it would leave a child that nobody knows.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    try:
        return subprocess.Popen(
            command,
            cwd=shell.folder,
            env=shell.environment,
            stdout=stdout,
            text=True,
            process_group=0,  # the terminal's Ctrl-C reaches us alone, and the child gets it from us, once
            preexec_fn=_listen,  # noqa: PLW1509 - there is no other thread
        )
    except OSError as error:
        _listen()
        raise GateError(f"cannot run {command[0]}: {error.strerror}") from error


def _listen() -> None:
    """Let Ctrl-C through, in us and in the child."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)


def _interrupt(process: "subprocess.Popen[str]") -> None:
    """End a child and those in its group, such as make's, as Ctrl-C in a terminal would; kill it when asked twice."""
    try:
        _signal(process, signal.SIGINT)
        process.wait(CLEANUP_S)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        process.kill()
        process.wait()


def _signal(process: "subprocess.Popen[str]", number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)

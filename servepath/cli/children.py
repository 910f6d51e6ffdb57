"""Programs as children: Ctrl-C ends the child and all in its group, as in a terminal, and only then us."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from servepath.cli.signals import STOP_SIGNALS, block_signals

# How long a child may take to clean up after Ctrl-C: a load of services drains for up to 30 s.
CLEANUP_S = 60.0


def run_and_wait(
    command: Sequence[str],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdout: int | None = None,
    limit_s: float | None = None,
    listening: bool = True,
) -> tuple[int, str]:
    """Run a program to its end; return its exit code and what `stdout` (a pipe) captured.

    A program that is not `listening` starts with Ctrl-C and SIGTERM blocked, and lets them through by itself when it
    can take them, as `python -m servepath.cli` does. Raises OSError when it cannot be started; TimeoutExpired after
    `limit_s` seconds and KeyboardInterrupt, both once it has ended.
    """
    with contextlib.ExitStack() as born:
        born.enter_context(block_signals())  # in between, it would leave a child that nobody knows
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=stdout,
            text=True,
            process_group=0,  # the terminal's Ctrl-C reaches us alone, and the child gets it from us, once
            preexec_fn=_listen if listening else None,  # noqa: PLW1509 - who starts programs so has no threads
        )
        try:
            born.close()
            text, _ = process.communicate(timeout=limit_s)
        except BaseException:
            _interrupt(process)
            raise
        finally:
            if process.stdout is not None:
                process.stdout.close()
            _signal(process, signal.SIGKILL)  # one that was killed may leave its own children
    return process.returncode, text or ""


def _listen() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def _interrupt(process: "subprocess.Popen[str]") -> None:
    """Interrupt a child and its process group as Ctrl-C in a terminal would; kill it the second time."""
    try:
        _signal(process, signal.SIGINT)
        process.wait(CLEANUP_S)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        process.kill()
        process.wait()


def _signal(process: "subprocess.Popen[str]", number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)

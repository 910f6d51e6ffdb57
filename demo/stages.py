"""Stages as subprocesses: a headline, the stage's own output, its duration; Ctrl-C ends the stage, then the demo."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

# How long a stage may take to clean up after Ctrl-C: a load of services drains for up to 30 s.
CLEANUP_S = 60.0
ENDINGS = (signal.SIGINT, signal.SIGTERM)


class StageFailed(Exception):
    """A stage ended with an exit code that does not pass; the text names both."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step. words: what follows `python -m`; passing: the exit codes that let the demo go on."""

    title: str
    words: Sequence[str]
    passing: Sequence[int] = (0,)


def run(stage: Stage, console: Console) -> None:
    """Run a stage to its end and let its output pass. Raises StageFailed; KeyboardInterrupt once it has ended."""
    console.rule(f"[bold]{stage.title}[/]  python -m {' '.join(stage.words)}", align="left")
    begin = time.monotonic()
    code, _ = _to_the_end(stage)
    took_s = time.monotonic() - begin
    if code not in stage.passing:
        raise StageFailed(f"{stage.title} ended with exit code {code} after {took_s:.1f} s")
    console.print(f"{stage.title}: {took_s:.1f} s", style="dim", highlight=False)


def output(stage: Stage) -> str:
    """Give what a quick stage prints. Raises StageFailed."""
    code, text = _to_the_end(stage, stdout=subprocess.PIPE)
    if code != 0:
        raise StageFailed(f"{stage.title} ended with exit code {code}")
    return text


def _to_the_end(stage: Stage, stdout: int | None = None) -> tuple[int, str]:
    """Give a stage's exit code and captured output. On KeyboardInterrupt end it as Ctrl-C would, wait, pass that on."""
    # Ctrl-C is held back while the stage is being born, here and in it: in between, it would leave a stage without a
    # parent, or print a traceback of Python's own start. `python -m commandline` lets it through again.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    # A process group of its own: the terminal's Ctrl-C reaches us alone, and the stage gets it from us, once.
    command = [sys.executable, "-m", "commandline", *stage.words]
    process = subprocess.Popen(command, stdout=stdout, text=True, process_group=0)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)
        text, _ = process.communicate()
    except BaseException:
        _interrupt(process)
        raise
    finally:
        if process.stdout is not None:
            process.stdout.close()
        _kill_group(process)  # a stage that was killed may leave its own children
    return process.returncode, text or ""


def _interrupt(process: subprocess.Popen[str]) -> None:
    try:
        process.send_signal(signal.SIGINT)
        process.wait(CLEANUP_S)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        process.kill()  # asked twice, or it does not listen
        process.wait()


def _kill_group(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)

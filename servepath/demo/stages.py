"""Stages as subprocesses: a headline, the stage's own output, its duration; Ctrl-C ends the stage, then the demo."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape

from servepath.cli.children import run_and_wait
from servepath.cli.signals import STOP_SIGNALS


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
    console.rule(f"[bold]{stage.title}[/]  python -m {escape(' '.join(stage.words))}", align="left")
    begin = time.monotonic()
    code, _ = _run_and_wait(stage)
    took_s = time.monotonic() - begin
    if code not in stage.passing:
        raise StageFailed(f"{stage.title} ended with exit code {code} after {took_s:.1f} s")
    console.print(f"{stage.title}: {took_s:.1f} s", style="dim", highlight=False)


def stop(words: Sequence[str], console: Console) -> None:
    """Stop the services that the words of `down` name.

    Raises StageFailed; KeyboardInterrupt once they are stopped all the same.
    """
    stage = Stage("stop", ["servepath.runner", "down", *words])
    try:
        run(stage, console)
    except KeyboardInterrupt:
        # It may have ended of that before it did anything. The second try is short: who is told twice ends at once.
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        run(stage, console)
        raise


def output(stage: Stage) -> str:
    """Return what a quick stage prints. Raises StageFailed."""
    code, text = _run_and_wait(stage, stdout=subprocess.PIPE)
    if code != 0:
        raise StageFailed(f"{stage.title} ended with exit code {code}")
    return text


def _run_and_wait(stage: Stage, stdout: int | None = None) -> tuple[int, str]:
    # Python's own start would print a traceback on Ctrl-C: `python -m servepath.cli` lets it through after that.
    return run_and_wait([sys.executable, "-m", "servepath.cli", *stage.words], stdout=stdout, listening=False)

"""How far a run is: a bar with the time left on a terminal, a line per round elsewhere.

It is drawn between measurements only: drawing takes milliseconds of the generator's process, and requests would leave
late.
"""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from loadtest.plan import Measurement, Turn


class Report:
    """Tells of the warm-up and of every measurement."""

    def __init__(self, console: Console, measurements: int, rounds: int) -> None:
        self._console = console
        self._measurements = measurements
        self._rounds = rounds
        self._round: list[Mapping[str, Any]] = []
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(
            *columns, TextColumn("left:"), TimeRemainingColumn(), console=console, auto_refresh=False, transient=True
        )
        self._task = self._bar.add_task("warm-up", total=measurements * rounds)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def warming(self, measurement: Measurement) -> None:
        """Show which path's warm-up begins."""
        self._bar.update(self._task, description=f"warm-up {_name(measurement.to_dict())}")
        self._show()

    def warmed(self, warmups: list[dict[str, Any]]) -> None:
        """Show how long the warm-up was, and start timing the rounds."""
        unstable = [_name(found) for found in warmups if not found["stable"]]
        text = f"warm-up: {sum(found['seconds'] for found in warmups):.0f} s"
        self.say(text + (f"; not stable within the limit: {', '.join(unstable)}" if unstable else ""))
        self._bar.reset(self._task, total=self._measurements * self._rounds)

    def loaded(self, turn: Turn, found: Mapping[str, Any]) -> None:
        """Show that a measurement has ended, and summarize its round after the last one."""
        self._round.append(found)
        self._bar.update(self._task, advance=1, description=f"round {turn.round + 1}/{self._rounds}")
        self._show()
        if len(self._round) == self._measurements:
            self._sum_up(turn)
            self._round.clear()

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, soft_wrap=True, markup=False)

    def _sum_up(self, turn: Turn) -> None:
        if self._console.is_terminal:
            return
        requests, errors, wrong = (sum(found[key] for found in self._round) for key in COUNTED)
        cpu = max((found["generator_cpu"] for found in self._round if "generator_cpu" in found), default=None)
        busy = "" if cpu is None else f", generator at most at {cpu:.0%} of a core"
        self.say(f"round {turn.round + 1}/{self._rounds}: {requests:,} requests, {errors} errors, {wrong} wrong{busy}")

    def _show(self) -> None:
        if self._console.is_terminal:
            self._bar.refresh()


def _name(found: Mapping[str, Any]) -> str:
    side = f" {found['side']}" if "side" in found else ""
    return f"{found['model']}@{found['stack']} {found['via']}{side}"


COUNTED = ("requests", "errors", "wrong_answers")

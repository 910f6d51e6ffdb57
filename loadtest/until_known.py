"""Rounds until it is known: the load goes on until the report knows differences of the wanted size, or time is up.

It ends before that where the run is not valid already: an answer was wrong, or a request failed.

The report looks from time to time, as a program beside this one (`python -m report look`): what it knows, it reads from
the run's files, and by which rule, report/sequential.py says.
"""

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from loadtest import plan
from loadtest.plan import Measurement, Turn
from loadtest.priority import ordinary
from loadtest.progress import Report
from loadtest.run import Run, RunError
from servepath.results.names import FAILED_REQUESTS, KNOWN, TIME_UP, WRONG_ANSWERS

# A measurement is a third as long as in a run of fixed rounds, and three rounds' requests make one p99: most of the
# noise is between measurements, so more of them buy more than longer ones (docs/adr/0040-rounds-until-known.md).
SPLIT = 3
# The first look, after 33 rounds, has 11 p99, the fewest for a verdict; others follow every 12 rounds.
FIRST, EVERY = 11 * SPLIT, 4 * SPLIT
# What makes a run not valid as the report has it (report/validity.py), by what run.json counts of a measurement.
SPOILING = (
    (("wrong_answers", "warmup_wrong_answers"), WRONG_ANSWERS),
    (("errors",), FAILED_REQUESTS),
)

Ask = Callable[[], dict[str, Any]]


class Loads(Protocol):
    """What loads one measurement after another: a Session (loadtest/session.py)."""

    def turn(self, turn: Turn) -> dict[str, Any]:
        """Load one measurement and return what run.json says about it."""
        ...


class Limit(NamedTuple):
    """What is to be known, as a share, and by when; begin_s: by time.monotonic()."""

    difference: float
    minutes: float
    begin_s: float

    def share(self, rounds: int, round_s: float, now_s: float) -> float | None:
        """Return the share of the limit that has passed where a look is due after `rounds`, else None.

        It is 1, and the look the last one, where a further round of `round_s` would end too late.
        """
        passed = (now_s - self.begin_s) / (60 * self.minutes)
        if passed + round_s / (60 * self.minutes) > 1:
            return 1.0
        return passed if rounds >= FIRST and (rounds - FIRST) % EVERY == 0 else None


def load(
    this_run: Run, measurements: Sequence[Measurement], session: Loads, report: Report, *, limit: Limit, ask: Ask
) -> None:
    """Load rounds until all is known, the time is up, or the run is not valid.

    Raises InterruptedRun; RunError when the report fails.
    """
    loading_s, looks = time.monotonic(), list[dict[str, Any]]()
    for rounds in itertools.count(1):
        for turn in plan.draw_round(measurements, rounds - 1, this_run.facts["seed"]):
            this_run.measurements.append(session.turn(turn))
            report.loaded(turn, this_run.measurements[-1])
        now_s = time.monotonic()
        share = limit.share(rounds, (now_s - loading_s) / rounds, now_s)
        if share is not None:
            looks.append({"rounds": rounds, "share": share, "needed_minutes": None})
        _save(this_run, limit, looks, "")
        if share is not None and (ended := _spoiled(this_run, measurements, report) or _look(looks, ask, report)):
            this_run.facts = {**this_run.facts, "rounds": rounds}
            _save(this_run, limit, looks, ended)
            return


def _look(looks: Sequence[dict[str, Any]], ask: Ask, report: Report) -> str:
    """Return why the run ends, if it does, by what the report knows now, which is printed."""
    found = ask()
    looks[-1]["needed_minutes"] = found["needed_minutes"]
    report.say(found["said"])
    return KNOWN if found["known"] else TIME_UP if looks[-1]["share"] == 1 else ""


def _spoiled(this_run: Run, measurements: Sequence[Measurement], report: Report) -> str:
    """Return why the run is not valid, whatever further rounds would show, which is printed; else ""."""
    found = this_run.measurements
    seen = {str(each): [one for one in found if each.to_dict().items() <= one.items()] for each in measurements}
    for counts, reason in SPOILING:
        if names := [name for name, own in seen.items() if any(one[count] for one in own for count in counts)]:
            report.say(f"the run is not valid and ends here: {reason} of {', '.join(names)}")
            return reason
    return ""


def _save(this_run: Run, limit: Limit, looks: Sequence[dict[str, Any]], ended: str) -> None:
    """Write run.json with the rule and its looks so far; a run that has ended is complete."""
    rule = {"difference": limit.difference, "minutes": limit.minutes, "split": SPLIT}
    this_run.facts = {**this_run.facts, "sequential": {**rule, "looks": list(looks), "ended": ended}}
    this_run.save(complete=bool(ended))


@contextmanager
def asking(folder: Path) -> Iterator[Ask]:
    """Yield what asks the report to look; it ends with the `with` statement, or with us. It raises RunError."""
    command = [sys.executable, "-m", "report", "look", str(folder)]
    with ordinary():
        # A process group of its own: the terminal's Ctrl-C is for us alone.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0, bufsize=1
        )
    with process:
        try:
            yield lambda: _answer(process)
        finally:
            process.stdin.close()  # type: ignore[union-attr]


def _answer(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdin is not None  # noqa: S101 - for the type checker
    assert process.stdout is not None  # noqa: S101 - for the type checker
    try:
        process.stdin.write("look\n")
        process.stdin.flush()
        answer = process.stdout.readline()
    except BrokenPipeError:
        answer = ""
    if not answer:
        raise RunError("the report cannot look at the run; see above")
    found: dict[str, Any] = json.loads(answer)
    return found

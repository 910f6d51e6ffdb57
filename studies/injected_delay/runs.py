"""What is run: one that says how long a request takes here, then load tests of three sides, each in its own folder."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from report.schema import ReportError
from report.summary import build
from servepath.artifacts import atomic
from servepath.cli.children import tail
from studies.injected_delay.servers import MAX_DELAY_US, CommandFailed, process, running

A, ALIKE, INJECTED = "a", "b", "injected"
# Of the median response time.
INJECTED_SHARE = 0.05
CALIBRATING_ROUNDS = 5
CALIBRATING_TRIES = 3
# The sides and the no-op server; what a measurement sends; what it may take besides, and the start with the warm-up.
MEASUREMENTS, REQUESTS, SLACK_S, MAX_START_S = 4, 700, 2.0, 120.0


class Plan(NamedTuple):
    """What every run of a folder has in common: path MODEL@STACK, rounds, requests a second, the artifacts' folder.

    difference: rounds go on until that is known, for `minutes` at most; None: there are `rounds` of them.
    """

    path: str
    rounds: int
    rate: float
    exports: Path
    difference: float | None = None
    minutes: float = 15.0

    @property
    def length(self) -> str:
        """Return how long a run is, in words."""
        if self.difference is None:
            return f"{self.rounds} rounds"
        return f"rounds until {100 * self.difference:g} % is known, {self.minutes:g} minutes at most"


@dataclass(frozen=True, slots=True)
class Calibration:
    """The conditions of all runs in a folder. p50_us: of response times without delay. delay_us: what is injected."""

    path: str
    rounds: int
    rate_rps: float
    p50_us: float
    delay_us: float
    length: str = ""

    @property
    def planned(self) -> str:
        """Return how long a run is, in words; older files do not say."""
        return self.length or f"{self.rounds} rounds"


def calibrated(plan: Plan, out: Path) -> Calibration:
    """Return what OUT/calibration.json says, measured now if it is not there.

    Raises CommandFailed when the folder was begun with another plan, or the machine lets no run be valid.
    """
    file = out / "calibration.json"
    if not file.exists():
        found = _calibrate(plan, out)
        atomic.write_file(file, json.dumps(asdict(found), indent=2) + "\n")
        return found
    try:
        found = Calibration(**json.loads(file.read_text()))
    except (ValueError, TypeError) as error:
        raise CommandFailed(
            f"{file} is no calibration ({error}); remove {out}, or give another folder by --out"
        ) from error
    begun = (found.path, found.planned, found.rate_rps)
    if begun != (plan.path, plan.length, plan.rate):
        said = f"{found.path}, {found.planned}, {found.rate_rps:g}/s"
        raise CommandFailed(f"{out} was begun with {said}; give these again, or another folder by --out")
    return found


def _calibrate(plan: Plan, out: Path) -> Calibration:
    reasons: tuple[str, ...] = ()
    for number in range(CALIBRATING_TRIES):
        short = plan._replace(rounds=CALIBRATING_ROUNDS, difference=None)
        summary = build(load(short, {A: 0.0, ALIKE: 0.0}, out, runs=out / "calibration", seed=number))
        if summary.valid:
            medians_ms = [row.response_p50_ms for row in summary.rows if row.response_p50_ms is not None]
            p50_us = 1000 * sum(medians_ms) / len(medians_ms)
            delay_us = round(INJECTED_SHARE * p50_us, 1)
            if delay_us > MAX_DELAY_US:
                raise CommandFailed(
                    f"{100 * INJECTED_SHARE:.0f} % of {p50_us:,.0f} us is above {MAX_DELAY_US:g} us; use a quiet "
                    "machine"
                )
            return Calibration(plan.path, plan.rounds, plan.rate, round(p50_us, 1), delay_us, plan.length)
        reasons = summary.reasons
    raise CommandFailed(f"{CALIBRATING_TRIES} runs to measure p50 were INVALID, the last because: {'; '.join(reasons)}")


def load(plan: Plan, delays_us: Mapping[str, float], out: Path, *, runs: Path, seed: int) -> Path:
    """Load the sides in one run, each with its delay, and return the run's folder, new in `runs`. Raises CommandFailed.

    The order in which the servers start goes round with the seed.
    """
    sides = list(delays_us)
    first = seed % len(sides)
    in_turn = {side: delays_us[side] for side in sides[first:] + sides[:first]}
    with running(in_turn, plan.exports, out) as files:
        words = ["loadtest", "--paths", plan.path, "--via", "direct", "--exports", str(plan.exports)]
        words += ["--rate", f"{plan.rate:g}", "--seed", str(seed), "--out", str(runs)]
        words += [word for side in sides for word in ("--side", f"{side}={files[side]}")]
        words += _length(plan)
        most_s = MAX_START_S + 60 * plan.minutes
        if plan.difference is None:
            most_s = MAX_START_S + MEASUREMENTS * plan.rounds * (2 * REQUESTS / plan.rate + SLACK_S)
        command(words, out / "logs/loadtest.log", most_s)
    return (runs / "latest").resolve()


def _length(plan: Plan) -> list[str]:
    if plan.difference is None:
        return ["--rounds", str(plan.rounds)]
    return ["--difference", f"{plan.difference:g}", "--minutes", f"{plan.minutes:g}"]


def command(words: list[str], log: Path, most_s: float, fine: tuple[int, ...] = (0,)) -> None:
    """Run `python -m WORDS`, which has `most_s` seconds; what it says is in `log`. Raises CommandFailed."""
    with process(words, log) as started:
        try:
            code = started.wait(most_s)
        except subprocess.TimeoutExpired:
            raise CommandFailed(f"{words[0]} had not ended after {most_s:.0f} s; {log} ends: {tail(log)}") from None
    if code not in fine:
        raise CommandFailed(f"{words[0]} ended with {code}; {log} ends: {tail(log)}")


def ended(runs: Path) -> list[Path]:
    """Return the folders of the runs that ended by themselves, oldest first; an interrupted one does not count."""
    return [file.parent for file in sorted(runs.glob("[0-9]*/run.json")) if _complete(file)]


def _complete(file: Path) -> bool:
    try:
        return json.loads(file.read_text()).get("complete") is True
    except ValueError as error:
        raise ReportError(f"{file} is not JSON ({error}); remove its folder") from error

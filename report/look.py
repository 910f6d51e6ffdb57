"""Look at a run that goes on until its differences are known: `python -m report look RUN` answers each line it reads.

It stays beside the load test, so that a look reads only what is new, and costs no start of a program. Each answer is a
line of JSON; run.json must tell of the look before it is asked for. The report later judges by the same functions.
"""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from report import sequential
from report.intervals import Array
from report.rows import NO_OP, name_of, read_table
from report.schema import ReportError
from report.sequential import AIM, EARLY, Design, Standing
from report.stats import Samples
from report.verdicts import MIN_ROUNDS
from servepath.cli.arguments import Parser
from servepath.results.names import CLOSED, RUN_FILE


class Unfinished:
    """A run whose rows are read as they come: the latencies of each measurement, round after round."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read = 0
        self._latencies: dict[str, list[Array]] = {}

    def look(self) -> dict[str, Any]:
        """Return what is known now: see told(). Raises ReportError, OSError."""
        facts = json.loads((self._folder / RUN_FILE).read_text())
        judged = "service_us" if facts["load_model"] == CLOSED else "response_us"
        for each in facts["measurements"][self._read :]:
            name = name_of(each)
            if name != NO_OP:
                samples = Samples({each["round"]: read_table(self._folder / each["rows"])})
                found = samples.by_round(judged).get(each["round"], np.empty(0))
                self._latencies.setdefault(name.key, []).append(found)
        self._read = len(facts["measurements"])
        design = sequential.design_of(facts)
        if design is None or not design.looks:
            raise ReportError(f"{self._folder / RUN_FILE} tells of no look")
        return told(sequential.standings(self._latencies, design), design)


def told(found: Sequence[Standing], design: Design) -> dict[str, Any]:
    """Return known: whether all is; needed_minutes of the run in all, None where nothing tells; and said, in words."""
    aims = [each for each in found if each.hypothesis.metric == AIM]
    settled, minutes = sum(each.settled for each in aims), sequential.minutes_needed(found, design)
    look, percent = design.looks[-1], f"{100 * design.difference:g} %"
    said = (
        f"look {len(design.looks)}, {look.rounds} rounds, {look.share * design.minutes:.1f} min: "
        f"{settled} of {len(aims)} comparisons of {AIM} known to {percent}"
    )
    if look.rounds < MIN_ROUNDS:
        said += "; too few rounds to tell"
    elif minutes is None:
        said += "; a path has too few right answers to tell"
    elif settled < len(aims):
        said += f"; {_forecast(minutes, aims, design)}"
    return {"known": settled == len(aims), "needed_minutes": minutes, "said": said}


def _forecast(minutes: float, aims: Sequence[Standing], design: Design) -> str:
    if minutes <= design.minutes or design.looks[-1].share > EARLY:
        return f"{math.ceil(minutes)} minutes in all would tell"
    widest = max(float(each.logs.std(ddof=1)) for each in aims if not each.settled)
    return (
        f"this machine is too noisy to tell within {design.minutes:g} minutes: ratios scatter by "
        f"{100 * math.expm1(widest):.0f} % from round to round, and {math.ceil(minutes)} minutes would be needed"
    )


def main(argv: Sequence[str], _console: Console) -> int:
    """Answer until standard input ends; return the exit code."""
    parser = Parser(
        "servepath report look", description="What an unfinished run knows, a line of JSON for each line read."
    )
    parser.add_argument("run", type=Path, help="folder of the run")
    run = Unfinished(parser.parse_args(argv).run)
    for _ in sys.stdin:
        sys.stdout.write(json.dumps(run.look()) + "\n")
        sys.stdout.flush()
    return 0

"""Prove the statistics on runs with a known truth: `python -m studies.simulation` prints one line a kind of run.

Ends with 0 when every claim holds in every kind of run, 1 when one does not, 2 for a bad argument.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from report import intervals
from report.percentiles import minimum_samples
from report.schema import ReportError
from report.verdicts import MIN_ROUNDS, Latencies
from servepath.cli.arguments import Parser, whole
from studies.simulation.fit import fit
from studies.simulation.generators import Generator, Plan
from studies.simulation.kinds import KINDS
from studies.simulation.stored import read_latencies, read_stored
from studies.simulation.trial import INJECTED, MEASUREMENTS, Counts, try_out

# The size of a default load test: its rounds, and the fewest requests of a measurement.
RUNS, ROUNDS, REQUESTS = 2000, 20, minimum_samples("99")


MIN_COVERED, MAX_COVERED, MIN_FOUND = 0.93, 0.97, 0.95


class Column(NamedTuple):
    """A share that the table shows, and the claim on it; None where nothing is claimed."""

    title: str
    count: Callable[[Counts], int]
    holds: Callable[[float], bool] | None


def _covers_rightly(share: float) -> bool:
    return MIN_COVERED <= share <= MAX_COVERED


COLUMNS = (
    Column("95 % interval of p50 covers", lambda counts: counts.covered_p50, _covers_rightly),
    Column("of p99", lambda counts: counts.covered_p99, _covers_rightly),
    Column("bootstrap of p50", lambda counts: counts.bootstrap_p50, None),
    Column("false alarm in the family", lambda counts: counts.false_alarms, lambda share: share <= intervals.ALPHA),
    Column(f"{100 * (INJECTED - 1):.0f} % on p50 found", lambda counts: counts.found, lambda share: share >= MIN_FOUND),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and return the exit code."""
    options = _parser().parse_args(argv)
    try:
        kinds = KINDS | _fitted(options.run, read_latencies) | _fitted(options.stored, read_stored)
    except (ValueError, OSError, ReportError, pa.ArrowException) as error:
        print(f"servepath simulate: {error}", file=sys.stderr)
        return 1
    plan = Plan(options.runs, len(MEASUREMENTS), options.rounds, options.requests)
    print(
        f"{plan.runs:,} runs per line, {plan.rounds} rounds, {plan.requests} requests per measurement, seed "
        f"{options.seed}\n"
    )
    print(_line(["kind of run", *(column.title for column in COLUMNS)]))
    print(_line(["---"] * (len(COLUMNS) + 1)))
    return max([_show(name, kind, plan, options.seed) for name, kind in kinds.items()])


def _parser() -> Parser:
    parser = Parser("servepath simulate", description="Coverage, false alarms and power on simulated runs.")
    sizes = {
        "--runs": (1, RUNS, "simulated runs of each kind"),
        "--rounds": (MIN_ROUNDS, ROUNDS, "rounds in each"),
        "--requests": (minimum_samples("99"), REQUESTS, "requests in a measurement"),
        "--seed": (0, 1, "of the draws"),
    }
    for name, (least, default, text) in sizes.items():
        parser.add_argument(name, type=whole(least), default=default, help=f"{text} (default: {default})")
    parser.add_argument("--run", type=Path, help="a real run with rounds: one more kind is fitted to it")
    parser.add_argument("--stored", type=Path, help="a folder of such runs: one more kind is fitted to the valid ones")
    return parser


def _fitted(folder: Path | None, read: Callable[[Path], Latencies]) -> dict[str, Generator]:
    return {str(folder): fit(read(folder))} if folder else {}


def _show(name: str, kind: Generator, plan: Plan, seed: int) -> int:
    counts = try_out(kind, plan, seed)
    cells = [_cell(column, counts) for column in COLUMNS]
    print(_line([name, *(text for text, _ in cells)]), flush=True)
    return 0 if all(held for _, held in cells) else 1


def _cell(column: Column, counts: Counts) -> tuple[str, bool]:
    count = column.count(counts)
    low, high = intervals.exact_interval(count, counts.runs)
    held = column.holds is None or column.holds(count / counts.runs)
    text = f"{100 * count / counts.runs:.1f} % ({100 * low:.1f}..{100 * high:.1f})"
    return (text if held else f"**{text}**"), held


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())

"""Prove the rule by which a run goes on until it knows: `python -m studies.sequential` prints a line a kind and rule.

Each run has the three sides of `make validate-method`, 5 % wanted within 15 minutes. Ends with 0 when every claim holds
for the rule that is taken in every kind of run, 1 when one does not, 2 for a bad argument.
"""

import math
import sys
from collections.abc import Sequence

import numpy as np

from report import intervals
from report.intervals import Array
from servepath.cli.arguments import Parser, whole
from studies.sequential import trial
from studies.sequential.covariate import width
from studies.sequential.kinds import FIXED_KINDS, shorter
from studies.sequential.rules import RULES
from studies.sequential.trial import Flags, Length, Outcome, schedule

RUNS, MINUTES, DIFFERENCE = 2000, 15.0, 0.05
# Seconds of a round of three sides and the no-op server: validate-method of 2026-11-23 took 6.5 for 1.35 s each.
LONG_S, SHORT_S = 6.5, 2.9
# As loadtest/until_known.py has them.
SPLIT, FIRST, EVERY = 3, 33, 12
SHORT = Length(225, SPLIT, schedule(FIRST, EVERY, int(60 * MINUTES / SHORT_S)), SHORT_S)
LONG = Length(675, 1, schedule(11, 4, int(60 * MINUTES / LONG_S)), LONG_S)
FIXED_ROUNDS = 20
MAX_ALARMS, MIN_COVERED, MIN_TOLD = 0.025, 0.95, 0.9
TAKEN = next(iter(RULES))
SHARES = ("false alarm", "5 % found", "found or said too noisy", "95 % interval covers", "known in time")
COLUMNS = ("kind of run", "rule", *SHARES, "rounds", "minutes")
# Sides that feel the machine alike, and one that feels half of it.
FEELING = {"alike": (1.0, 1.0), "one feels half": (1.0, 0.5)}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables and return the exit code."""
    parser = Parser("python -m studies.sequential", description="Error rates and times of rounds until it is known.")
    parser.add_argument("--runs", type=whole(1), default=RUNS, help=f"simulated runs per line (default: {RUNS})")
    parser.add_argument("--seed", type=whole(0), default=1, help="of the draws (default: 1)")
    options = parser.parse_args(argv)
    print(f"{options.runs:,} runs per line, {MINUTES:g} minutes at most, seed {options.seed}\n")
    for cells in (COLUMNS, ["---"] * len(COLUMNS)):
        print(_line(cells))
    held = min([_show(name, options.runs, options.seed) for name in FIXED_KINDS])
    print("\nThe no-op server as a covariate:\n")
    print(_line(["kind of run", "the sides feel the machine", "width of intervals to that without"]))
    print(_line(["---"] * 3))
    for name in ("correlated measurements", "stored run"):
        for feeling, feels in FEELING.items():
            print(_line([name, feeling, f"{width(FIXED_KINDS[name], feels, options.runs, options.seed):.3f}"]))
    return 0 if held else 1


def _show(name: str, runs: int, seed: int) -> bool:
    """Print a kind's lines; return whether the claims hold for the rule that is taken."""
    wanted = injected = math.log1p(DIFFERENCE)
    kind, held = shorter(FIXED_KINDS[name]), True
    drawn = trial.draw(kind, runs, SHORT, injected, np.random.default_rng(seed))
    for rule, of in RULES.items():
        found = trial.play(drawn, SHORT, of, wanted, injected)
        print(_line(_cells(name, rule, found, SHORT)), flush=True)
        if rule == TAKEN:
            held = bool(
                found.alarm.mean() <= MAX_ALARMS
                and found.covered.mean() >= MIN_COVERED
                and found.told.mean() >= MIN_TOLD
            )
    drawn = trial.draw(FIXED_KINDS[name], runs, LONG, injected, np.random.default_rng(seed))
    found = trial.play(drawn, LONG, RULES[TAKEN], wanted, injected)
    print(_line(_cells(name, f"{TAKEN}, long measurements", found, LONG)), flush=True)
    print(_line(_fixed(name, *drawn)), flush=True)
    return held


def _cells(name: str, rule: str, found: Outcome, length: Length) -> list[str]:
    shares = (_share(each) for each in (found.alarm, found.found, found.told, found.covered))
    rounds = float(found.rounds.mean())
    minutes = rounds * length.round_s / 60
    return [name, rule, *shares, f"{100 * found.known.mean():.1f} %", f"{rounds:.0f}", f"{minutes:.1f}"]


def _fixed(name: str, p50: Array, p99: Array) -> list[str]:
    """Return the line of 20 fixed rounds, judged as such runs are."""
    alarms, finds = (_pair(p50, p99, pair) for pair in ((0, 1), (0, 2)))
    minutes = f"{FIXED_ROUNDS * LONG_S / 60:.1f}"
    shares = [_share(alarms[:, 0] | alarms[:, 1]), _share(finds[:, 0]), "", "", "", f"{FIXED_ROUNDS}", minutes]
    return [name, f"{FIXED_ROUNDS} fixed rounds", *shares]


def _pair(p50: Array, p99: Array, pair: tuple[int, int]) -> Flags:
    """Return whether a winner is named on p50 and on p99, by Holm over the two."""
    one, other = pair
    ratios = np.stack(
        [values[:, one, :FIXED_ROUNDS] - values[:, other, :FIXED_ROUNDS] for values in (p50, p99)], axis=1
    )
    leaning = intervals.lag1_autocorrelation(ratios)
    return np.asarray(intervals.holm(intervals.t_p_value(ratios, leaning)) <= intervals.ALPHA, dtype=np.bool_)


def _share(of: Flags) -> str:
    low, high = intervals.exact_interval(int(of.sum()), len(of))
    return f"{100 * of.mean():.1f} % ({100 * low:.1f}..{100 * high:.1f})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())

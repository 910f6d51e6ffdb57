"""Is new code slower than old by more than a threshold? Decided on the ratio of percentiles, path by path.

The old is one side of the same run, or at least MIN_STORED runs of one commit. Two claims, each for the family of all
paths, ways and percentiles together, at 95 % confidence. Alarm: where no path is slower by more than the threshold, one
is called slower in at most 5 % of decisions (one-sided t at ALPHA / family: Bonferroni). Pass: where any path is slower
by the threshold or more, all are called "not slower" in at most 5 % of decisions; each path's own bound at ALPHA is
enough for that, since every one of them must hold (Berger, Multiparameter hypothesis testing and acceptance sampling,
Technometrics 24, 1982).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from report import intervals
from report.compare import compare
from report.intervals import ALPHA
from report.rows import MeasurementName
from report.schema import ReportError
from report.sequential import design_of
from report.stats import latencies
from report.summary import Summary
from report.verdicts import METRICS, MIN_ROUNDS, Hypothesis, Latencies, autocorrelation, log_ratios
from servepath.artifacts.commit import names_code

SLOWER, NOT_SLOWER, UNKNOWN = "slower", "not slower", "cannot tell"
# The spread between runs is not known from fewer.
MIN_STORED = 5
PASSED, ALARM, UNDECIDED = 0, 3, 4
# Passing rests on this one; a p99 as well known takes nine times the rounds (docs/method.md). It raises alarms.
CERTAIN = "p50"


class Estimate(NamedTuple):
    """How the new's percentile compares with the old's: the logarithm of their ratio, with its standard error.

    samples: rounds, or of stored runs, behind it, `least` of which are needed; degrees: of freedom of the error.
    """

    measurement: MeasurementName
    metric: str
    samples: int
    least: int
    mean: float = math.nan
    error: float = math.nan
    degrees: float = math.nan


class Decision(NamedTuple):
    """What became of an estimate. ratio: new to old. low: alarm when it is above the threshold; high: pass when below.

    needed: how many rounds as these would tell, None where there is nothing to go by.
    """

    measurement: MeasurementName
    metric: str
    samples: int
    found: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    needed: int | None = None


def between_sides(times: Latencies, pairs: Sequence[tuple[MeasurementName, MeasurementName]]) -> list[Estimate]:
    """Return an estimate on each pair (old, new) of one path, for each percentile, from the rounds of one run.

    times: latencies by the measurement's key, as report.verdicts has them.
    """
    family = [Hypothesis(metric, new.key, old.key, "side") for metric in METRICS for old, new in pairs]
    measurements = [new._replace(side="") for _ in METRICS for _, new in pairs]
    ratios = log_ratios(times, family)
    autocorrelations = autocorrelation(family, ratios)
    found = []
    for measurement, each, logs in zip(measurements, family, ratios, strict=True):
        estimate = Estimate(measurement, each.metric, len(logs), MIN_ROUNDS)
        if len(logs) >= MIN_ROUNDS:
            error = float(intervals.standard_error(logs, autocorrelations[each.metric]))
            degrees = float(intervals.effective_sample_size(len(logs), autocorrelations[each.metric])) - 1
            estimate = estimate._replace(mean=float(logs.mean()), error=error, degrees=degrees)
        found.append(estimate)
    return found


def against_stored(new: Summary, stored: Sequence[Summary]) -> list[Estimate]:
    """Return an estimate on each path of all runs, for each percentile, from runs that show how much runs differ.

    A new run's value is as far from the mean of n as s * sqrt(1 + 1 / n) allows, with n - 1 degrees of freedom (the
    prediction interval; Hahn, Meeker, Statistical Intervals, 1991, section 4.7). A path that the new run lacks has no
    samples: what was not measured may be slower.
    """
    values, others = _percentiles(new), [_percentiles(summary) for summary in stored]
    missing = dict.fromkeys(key for other in others for key in other if key not in values)
    found = []
    for (measurement, metric), value in (values | missing).items():
        logs = [math.log(known) for known in (other.get((measurement, metric)) for other in others) if known]
        count = len(logs) if value else 0
        estimate = Estimate(measurement, metric, count, MIN_STORED)
        if value and count >= MIN_STORED:
            error = float(np.std(logs, ddof=1)) * math.sqrt(1 + 1 / count)
            estimate = estimate._replace(mean=math.log(value) - float(np.mean(logs)), error=error, degrees=count - 1)
        found.append(estimate)
    return found


def _percentiles(summary: Summary) -> dict[tuple[MeasurementName, str], float | None]:
    prefix = "response_" if summary.open_loop else ""
    return {(row.name, metric): getattr(row, f"{prefix}{metric}_ms") for metric in METRICS for row in summary.rows}


def decide(estimates: Sequence[Estimate], threshold: float) -> tuple[Decision, ...]:
    """Decide on each estimate; all of them, those with too little behind them too, are one family.

    threshold: 0.05 where 5 % slower is the most that passes.
    """
    return tuple(_decide(each, math.log1p(threshold), len(estimates)) for each in estimates)


def outcome(decisions: Sequence[Decision], *, tail: bool) -> int:
    """Return the exit code: ALARM when any is slower, PASSED when every one that must be is not, UNDECIDED else."""
    if any(each.found == SLOWER for each in decisions):
        return ALARM
    needed = [each for each in decisions if tail or each.metric == CERTAIN]
    return PASSED if needed and all(each.found == NOT_SLOWER for each in needed) else UNDECIDED


def _decide(each: Estimate, limit: float, family: int) -> Decision:
    if each.samples < each.least:
        return Decision(each.measurement, each.metric, each.samples, UNKNOWN)
    down = _reach(each, 1 - ALPHA / family)
    up = _reach(each, 1 - ALPHA)
    low, high = each.mean - down, each.mean + up
    found = SLOWER if low > limit else NOT_SLOWER if high < limit else UNKNOWN
    gap = abs(limit - each.mean)
    needed = math.ceil(each.samples * ((up if each.mean < limit else down) / gap) ** 2) if gap else None
    return Decision(
        each.measurement, each.metric, each.samples, found, math.exp(each.mean), math.exp(low), math.exp(high), needed
    )


def _reach(each: Estimate, level: float) -> float:
    return float(special.stdtrit(each.degrees, level)) * each.error


def sides_of(summary: Summary) -> tuple[str, str]:
    """Return the names of a run's two sides, the old one first. Raises ReportError when it has not two."""
    names = [str(word).partition("=")[0] for word in summary.facts["arguments"].get("side") or ()]
    if len(names) != 2:  # noqa: PLR2004 - old and new
        run = summary.facts["run"]
        raise ReportError(f"{run} does not compare two sides; run: make gate REF=..., or give stored runs by --stored")
    return names[0], names[1]


def from_sides(summary: Summary) -> list[Estimate]:
    """Return the estimates of a run of two sides. Raises ReportError, also for one that ended by what it saw."""
    old, new = sides_of(summary)
    if design_of(summary.facts) is not None:
        raise ReportError(
            f"{summary.facts['run']} went on until its differences were known (--difference); the gate's bounds are "
            "for rounds that were fixed before: run it with --rounds"
        )
    rows = {row.name: row for row in summary.rows}
    names = [name for name in rows if name.side == new and name._replace(side=old) in rows]
    return between_sides(latencies(summary.rows, summary.rounds), [(name._replace(side=old), name) for name in names])


def from_stored(new: Summary, stored: Sequence[Summary], allowed: Sequence[str]) -> list[Estimate]:
    """Return the estimates of a run against stored ones.

    Raises ReportError when a stored one is not valid, is given twice, is of another commit than the others or of
    uncommitted files, or differs from the new one in what must be equal and differs in `allowed`.
    """
    runs = [str(summary.facts["run"]) for summary in (new, *stored)]
    twice = sorted({run for run in runs if runs.count(run) > 1})
    if twice:
        raise ReportError(f"{twice[0]} is given twice; every run counts once")
    commits = sorted({str(summary.facts["git_commit"]) for summary in stored})
    if len(commits) > 1:
        raise ReportError(f"the stored runs are of several commits ({', '.join(commits)}); give those of one")
    if not names_code(commits[0]):
        raise ReportError(
            f"the stored runs are of {commits[0]} with uncommitted changes, so their files are "
            "unknown; store runs of a clean commit"
        )
    for summary in stored:
        compare(summary, new, allowed=allowed)
    return against_stored(new, stored)

"""Many simulated runs of one kind, judged as real ones are, and how often the judgement was right."""

import math
from typing import NamedTuple

import numpy as np

from report import intervals
from report.intervals import ALPHA, Array
from report.verdicts import DIRECT, GATEWAY, METRICS, Hypothesis, primary_family
from studies.simulation.generators import Generator, Plan, log_percentiles

# Four paths reached both ways: the run whose primary family is largest today.
MEASUREMENTS = tuple(sorted(f"model@{stack}.{via}" for stack in "abcd" for via in (DIRECT, GATEWAY)))
INJECTED = 1.05
# The two measurements that are looked at singly; the first is made INJECTED times as slow.
SLOWED = Hypothesis("p50", f"model@a.{DIRECT}", f"model@b.{DIRECT}", "path")


class Counts(NamedTuple):
    """In how many of `runs` simulated runs it came out so.

    covered_p50, covered_p99: Student's 95 % interval holds the true ratio; bootstrap_p50: the bootstrap's does.
    false_alarms: all measurements alike, and any verdict in the family names a winner. found: one measurement is 5 %
    slower, and the verdict on it and one other measurement, corrected over the family, says so for p50.
    """

    runs: int
    covered_p50: int
    covered_p99: int
    bootstrap_p50: int
    false_alarms: int
    found: int


def try_out(generator: Generator, plan: Plan, seed: int) -> Counts:
    """Return the counts of plan.runs runs; plan.measurements must be len(BLOCKS)."""
    family = primary_family(MEASUREMENTS)
    alike = log_percentiles(generator, plan, np.random.default_rng(seed))
    slowed = alike.copy()
    slowed[:, :, MEASUREMENTS.index(SLOWED.a)] += math.log(INJECTED)
    ratios = log_ratios(slowed, family)
    p50, p99 = (family.index(SLOWED._replace(metric=metric)) for metric in METRICS)
    covered = covers(intervals.t_interval(ratios, autocorrelation(ratios)))
    found = winners(ratios)[:, p50] & (ratios[:, p50].mean(axis=-1) > 0)
    return Counts(
        plan.runs,
        int(covered[:, p50].sum()),
        int(covered[:, p99].sum()),
        int(covers(intervals.bootstrap_interval(ratios[:, p50], seed)).sum()),
        int(winners(log_ratios(alike, family)).any(axis=-1).sum()),
        int(found.sum()),
    )


def log_ratios(logs: Array, family: tuple[Hypothesis, ...]) -> Array:
    """Return the log ratio of each hypothesis in each round: runs x hypotheses x rounds."""
    metrics = [list(METRICS).index(each.metric) for each in family]
    sides = [[MEASUREMENTS.index(each.a) for each in family], [MEASUREMENTS.index(each.b) for each in family]]
    return logs[:, metrics, sides[0]] - logs[:, metrics, sides[1]]


def autocorrelation(ratios: Array) -> Array:
    """Return each run's autocorrelation, one value for all hypotheses of a metric: runs x hypotheses."""
    runs, hypotheses, _ = ratios.shape
    by_metric = intervals.lag1_autocorrelation(ratios).reshape(runs, len(METRICS), -1).mean(axis=-1)
    return np.repeat(by_metric, hypotheses // len(METRICS), axis=-1)


def winners(ratios: Array) -> Array:
    """Return whether each hypothesis' verdict names a winner: runs x hypotheses."""
    return np.asarray(intervals.holm(intervals.t_p_value(ratios, autocorrelation(ratios))) <= ALPHA)


def covers(interval: intervals.Interval) -> Array:
    """Return whether each interval covers the injected ratio."""
    return np.asarray((interval.low <= math.log(INJECTED)) & (math.log(INJECTED) <= interval.high))

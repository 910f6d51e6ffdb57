"""All trials together: how often the judgement was right, and whether that contradicts what is claimed."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from report import intervals
from report.intervals import ALPHA
from report.verdicts import METRICS
from studies.injected_delay.trials import FAMILY, P50, Trial, on

# In so many runs an injected difference of 5 % is to be found on p50 (measurement: "false alarms").
MIN_FOUND = 0.95
# Of runs that go on until they know (report/sequential.py): 1 false alarm in 40 and 36 finds of 40.
MOST_ALARMS_UNTIL_KNOWN, MIN_FOUND_UNTIL_KNOWN = 0.025, 0.9


@dataclass(frozen=True, slots=True)
class Share:
    """How many of the valid trials, with the exact 95 % interval. contradicted: None where nothing is claimed."""

    title: str
    count: int
    total: int
    low: float
    high: float
    claim: str
    contradicted: bool | None


class Ratio(NamedTuple):
    """A ratio of p50s: the geometric mean over the trials, with Student's 95 % interval if there are three or more."""

    title: str
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Counts:
    """What came out. trials: the valid ones, at least one. invalid: those that gave no verdict."""

    trials: tuple[Trial, ...]
    invalid: tuple[Trial, ...]

    def shares(self) -> tuple[Share, ...]:
        """Return what is counted."""
        until_known = self.minutes() is not None
        most = MOST_ALARMS_UNTIL_KNOWN if until_known else ALPHA
        least = MIN_FOUND_UNTIL_KNOWN if until_known else MIN_FOUND
        alarms = (f"at most {100 * most:g} %", lambda low, _: low > most)
        finds = (f"at least {100 * least:g} %", lambda _, high: high < least)
        warned = "a against injected: found on p50, or said in the first half of the time that the machine is too noisy"
        return (
            self._share("a against b: a winner named on p50 or p99", "false_alarm", alarms),
            self._share("a against injected: found on p50", "found", None if until_known else finds),
            *([self._share(warned, "found_or_warned", finds)] if until_known else []),
            self._share("a against injected: the delayed one called faster on p50", "wrong_way", None),
            self._share(
                f"a against injected: found on p50 if it were one of {FAMILY} hypotheses", "found_at_once", None
            ),
        )

    @property
    def contradicted(self) -> bool:
        """Return whether the counts contradict a claim: its bound is outside the exact interval, on the wrong side."""
        return any(share.contradicted for share in self.shares())

    def ratios(self) -> tuple[Ratio, ...]:
        """Return how much slower than a the other servers are on p50, over all trials."""
        return _ratio("b to a, p50", self.trials, "alike"), _ratio("injected to a, p50", self.trials, "injected")

    def minimum_detectable_effect(self, metric: str) -> float:
        """Return the median over the trials of the minimum detectable ratio of the alike pair."""
        return median(on(metric, trial.alike).minimum_detectable_effect or math.nan for trial in self.trials)

    def minutes(self) -> float | None:
        """Return how long a run went on until it knew, the median over the trials; None where rounds were fixed."""
        found = [trial.minutes for trial in self.trials if trial.minutes is not None]
        return median(found) if found else None

    def spread(self, metric: str) -> float:
        """Return the standard deviation of the rounds' log ratios of the alike pair, over all trials."""
        return math.sqrt(sum((trial.spread or {})[metric] ** 2 for trial in self.trials) / len(self.trials))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "shares": [asdict(share) for share in self.shares()],
            "ratios": [ratio._asdict() for ratio in self.ratios()],
            "metrics": {
                metric: {
                    "minimum_detectable_effect_median": round(self.minimum_detectable_effect(metric), 5),
                    "spread_between_rounds": round(self.spread(metric), 5),
                }
                for metric in METRICS
            },
            "trials": [_trial(trial) for trial in self.trials],
            "invalid": [{"run": trial.run, "reasons": list(trial.reasons)} for trial in self.invalid],
        }

    def _share(self, title: str, name: str, claim: tuple[str, Callable[[float, float], bool]] | None) -> Share:
        count, total = sum(getattr(trial, name) for trial in self.trials), len(self.trials)
        low, high = intervals.exact_interval(count, total)
        words, against = claim or ("", None)
        return Share(title, count, total, low, high, words, against(low, high) if against else None)


def counts_of(trials: Sequence[Trial]) -> Counts:
    """Sort the trials by whether they are valid."""
    return Counts(tuple(t for t in trials if not t.reasons), tuple(t for t in trials if t.reasons))


def _ratio(title: str, trials: tuple[Trial, ...], pair: str) -> Ratio:
    logs = -np.log([on(P50, getattr(trial, pair)).ratio or math.nan for trial in trials])
    if len(logs) < intervals.MIN_EFFECTIVE:
        return Ratio(title, math.exp(logs.mean()), None, None)
    interval = intervals.t_interval(logs)
    return Ratio(title, math.exp(logs.mean()), math.exp(interval.low), math.exp(interval.high))


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "run": trial.run,
        "started": trial.started,
        "git_commit": trial.commit,
        **({} if trial.minutes is None else {"minutes": round(trial.minutes, 2), "warned": trial.warned}),
        "alike": [verdict.to_dict() for verdict in trial.alike],
        "injected": [verdict.to_dict() for verdict in trial.injected],
    }

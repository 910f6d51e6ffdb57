"""A run that went on until its differences were known: what it knew at each look, and what it may say in the end.

It looked again and again, and stopped by what it saw; so p values and intervals are those of all its looks together
(report/spending.py). Whatever made a run stop, a winner is named among equals in at most LEVEL of runs, and an interval
holds the true ratio in 95 % of them. A p50 is known when a winner is named, when every ratio in its interval is within
the wanted difference of 1, or when the interval is no wider than that difference.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from report import intervals, verdicts
from report.intervals import ALPHA, Array
from report.percentiles import per_round
from report.spending import Look, levels_by_look, nominal_levels
from report.verdicts import METRICS, MIN_ROUNDS, NOT_KNOWN, TOO_CLOSE, Hypothesis, Latencies, Measured, Verdict

# The family's: it leaves room below the 2.5 % that are claimed, for noise that Student's t does not know of.
LEVEL = 0.015
# Where the interval already leaves 0 out, and Holm's correction asks for more: so many times the rounds.
A_LITTLE = 1.2
# A forecast is a warning in the first half of the time: after 83 % of it, A_LITTLE alone exceeds what is left.
EARLY = 0.5
# What the run goes on for. A p99 scatters several times as much: its verdict is what the same rounds give.
AIM = "p50"


@dataclass(frozen=True, slots=True)
class Design:
    """How a run decides when to end. difference: wanted, 0.05 for 5 %. minutes: its limit.

    split: so many rounds together give one p99; a p50 takes one. looks: those so far. ended: why, as
    servepath/results/names.py has it, "" before that.
    """

    difference: float
    minutes: float
    split: int
    looks: tuple[Look, ...]
    ended: str = ""

    @property
    def wanted(self) -> float:
        """Return the wanted difference as the logarithm of a ratio."""
        return math.log1p(self.difference)


class Standing(NamedTuple):
    """What is known of a hypothesis at the last look. logs: its log ratios, and the mean +- reach is the interval.

    p_value: of all looks. won: by it, and the look that it comes from has the same winner as the last one. settled: see
    above; of a p99, always. needed: of the rounds so far, how many times as many would settle it, None where nothing
    tells.
    """

    hypothesis: Hypothesis
    logs: Array
    autocorrelation: float
    p_value: float
    p_holm: float
    reach: float
    won: bool
    settled: bool
    needed: float | None


def design_of(facts: Mapping[str, Any]) -> Design | None:
    """Return how a run, by its run.json, decided when to end; None where its rounds were fixed before."""
    found = facts.get("sequential")
    if found is None:
        return None
    looks = tuple(Look(each["rounds"], each["share"]) for each in found["looks"])
    return Design(found["difference"], found["minutes"], found["split"], looks, found["ended"])


def judge_run(facts: Mapping[str, Any], latencies: Latencies, labels: Mapping[str, str]) -> tuple[Verdict, ...]:
    """Return the verdicts on a run, or on a part of its measurements, by the rule that ended it."""
    design = design_of(facts)
    if design is None or not design.looks:
        return verdicts.judge(latencies, labels, seed=facts["seed"])
    verdicts.check_aligned(latencies, labels)
    found = standings(latencies, design)
    return tuple(_verdict(each, design, len(found), labels, facts["seed"]) for each in found)


def standings(latencies: Latencies, design: Design) -> list[Standing]:
    """Return what is known of each hypothesis of the primary family; latencies as for verdicts.judge."""
    family = verdicts.primary_family(latencies)
    every = _log_ratios(latencies, family, design.split)
    p_values, means = np.ones((2, len(family), len(design.looks)))
    for number, look in enumerate(design.looks):
        ratios = [_until(look, logs, each, design.split) for each, logs in zip(family, every, strict=True)]
        leaning = verdicts.autocorrelation(family, ratios)
        for row, (each, logs) in enumerate(zip(family, ratios, strict=True)):
            if len(logs) >= MIN_ROUNDS:
                p_values[row, number] = intervals.t_p_value(logs, leaning[each.metric])
                means[row, number] = logs.mean()
    levels = levels_by_look(p_values, design.looks)
    found, deciding = levels.min(axis=-1), levels.argmin(axis=-1)
    nominal = float(nominal_levels(design.looks, ALPHA)[-1])
    return [
        _standing(
            each,
            logs,
            leaning[each.metric],
            p_values=(float(p_value), float(p_holm)),
            nominal=nominal,
            wanted=design.wanted,
            agrees=bool(np.sign(means[row, deciding[row]]) == np.sign(means[row, -1])),
        )
        for row, (each, logs, p_value, p_holm) in enumerate(
            zip(family, ratios, found, intervals.holm(found), strict=True)
        )
    ]


def _log_ratios(latencies: Latencies, family: Iterable[Hypothesis], split: int) -> list[Array]:
    logs = {
        (name, metric): np.log(per_round(rounds if metric == AIM else together(rounds, split), percent))
        for name, rounds in latencies.items()
        for metric, percent in METRICS.items()
    }
    return [logs[each.a, each.metric] - logs[each.b, each.metric] for each in family]


def together(rounds: Sequence[Array], split: int) -> list[Array]:
    """Return the latencies of every `split` rounds in a row as one; what is left over at the end is left out."""
    return [np.concatenate(rounds[end - split : end]) for end in range(split, len(rounds) + 1, split)]


def _until(look: Look, logs: Array, hypothesis: Hypothesis, split: int) -> Array:
    seen = logs[: look.rounds if hypothesis.metric == AIM else look.rounds // split]
    return seen[~np.isnan(seen)]


def _standing(
    hypothesis: Hypothesis,
    logs: Array,
    autocorrelation: float,
    *,
    p_values: tuple[float, float],
    nominal: float,
    wanted: float,
    agrees: bool,
) -> Standing:
    if len(logs) < MIN_ROUNDS:
        return Standing(
            hypothesis,
            logs,
            autocorrelation,
            *p_values,
            math.inf,
            won=False,
            settled=hypothesis.metric != AIM,
            needed=None,
        )
    error = intervals.standard_error(logs, autocorrelation)
    reach = float(intervals.t_quantile(1 - nominal / 2, len(logs), autocorrelation) * error)
    mean = float(logs.mean())
    won = agrees and p_values[1] <= LEVEL
    settled = hypothesis.metric != AIM or won or bool(known(mean, reach, wanted))
    return Standing(
        hypothesis,
        logs,
        autocorrelation,
        *p_values,
        reach,
        won=won,
        settled=settled,
        needed=None if settled else float(needed(mean, reach, wanted)),
    )


def known(mean: Array | float, reach: Array | float, wanted: float) -> Array:
    """Return whether mean +- reach is all within `wanted` of 0, or no wider than it."""
    return np.asarray((np.abs(mean) + reach < wanted) | (2 * np.asarray(reach) < wanted))


def needed(mean: Array | float, reach: Array | float, wanted: float) -> Array:
    """Return how many times the rounds so far would tell: by the interval leaving 0 out, or staying within `wanted`."""
    size = np.abs(mean)
    return np.asarray(np.maximum((reach / np.maximum(size, wanted - size)) ** 2, A_LITTLE))


def minutes_needed(found: Iterable[Standing], design: Design) -> float | None:
    """Return how many minutes from the run's begin would tell all, 0 when all is known, None where nothing tells."""
    open_ = [each.needed for each in found if not each.settled]
    if None in open_:
        return None
    return max((each for each in open_ if each is not None), default=0.0) * design.looks[-1].share * design.minutes


def _verdict(standing: Standing, design: Design, family: int, labels: Mapping[str, str], seed: int) -> Verdict:
    hypothesis, logs = standing.hypothesis, standing.logs
    if len(logs) < MIN_ROUNDS:
        return verdicts.refused(hypothesis, len(logs), labels)
    at = float(nominal_levels(design.looks, LEVEL / family)[-1])
    bounds = (logs.mean(), logs.mean() - standing.reach, logs.mean() + standing.reach)
    rest = (
        *intervals.bootstrap_interval(logs, seed),
        intervals.minimum_detectable_effect(logs, at, standing.autocorrelation),
    )
    measured = Measured(len(logs), *(float(np.exp(value)) for value in (*bounds, *rest)))
    verdict = TOO_CLOSE if standing.settled else NOT_KNOWN
    if standing.won:
        verdict = "a" if measured.ratio < 1 else "b"
    more = None if standing.needed is None else max(standing.needed - 1, 0.0) * design.looks[-1].share * design.minutes
    return Verdict(
        **hypothesis._asdict(),
        **measured._asdict(),
        p_value=standing.p_value,
        p_holm=standing.p_holm,
        verdict=verdict,
        more_minutes=more,
        sentence=_sentence(standing, measured, verdict, labels, design=design, more=more),
    )


def _sentence(
    standing: Standing,
    measured: Measured,
    verdict: str,
    labels: Mapping[str, str],
    *,
    design: Design,
    more: float | None,
) -> str:
    hypothesis = standing.hypothesis
    said = verdicts.in_words(hypothesis, measured, verdict, labels)
    if hypothesis.metric != AIM or verdict in {"a", "b"}:
        return said
    percent = f"{100 * design.difference:g} %"
    size = (
        f"{labels[hypothesis.a]} to {labels[hypothesis.b]} is {measured.ratio:.3f} "
        f"(95 % CI {measured.low:.3f}..{measured.high:.3f})"
    )
    if verdict == NOT_KNOWN and more is not None:
        return f"{hypothesis.metric}: not known to {percent}: {size}; {_minutes(more)} would tell"
    within = abs(float(standing.logs.mean())) + standing.reach < design.wanted
    return f"{hypothesis.metric}: no difference of {percent} or more: {size}" if within else said


def _minutes(more: float) -> str:
    whole = max(math.ceil(more), 1)
    return f"about {whole} more minute{'s' if whole > 1 else ''}"

"""Who is faster than whom, from rounds of latencies: the primary family of hypotheses, each with its verdict.

A measurement is named MODEL@STACK.VIA, or MODEL@STACK.VIA~SIDE where servers of one path are compared, and has one
array of latencies (microseconds, of right answers, in any order) per round. "A is faster than B by 18 %" means that A's
percentile is 18 % below B's.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from report import intervals
from report.intervals import ALPHA, POWER, Array
from report.percentiles import minimum_samples, per_round
from servepath.results.names import NO_OP_PATH

METRICS = {"p50": "50", "p99": "99"}
DIRECT, GATEWAY = "direct", "gateway"
TOO_CLOSE = "too close to call"
# Of a run that goes on until it knows (report/sequential.py), and whose time ended first.
NOT_KNOWN = "not known"
# With fewer rounds that all say the same, chance alone (2 of 2**rounds) does not reach Holm's strictest step in the
# family of 32: a verdict would rest on the normal distribution and on nothing that was seen.
MIN_ROUNDS = 11

Latencies = Mapping[str, Sequence[npt.NDArray[np.float64]]]


class Hypothesis(NamedTuple):
    """A percentile is the same for two measurements.

    family: "path" for two paths, "gateway" for one path both ways, "side" for two servers of one path.
    """

    metric: str
    a: str
    b: str
    family: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a hypothesis.

    ratio: a's percentile to b's, the geometric mean over the rounds that have both (`rounds` of them), with Student's
    95 % interval low..high and the bootstrap's as a check. p_holm is corrected over the whole primary family and
    decides; the interval is of this ratio alone. minimum_detectable_effect is a ratio, above 1. verdict is "a", "b",
    "too close to call" or "not known", which more_minutes would change; with fewer than MIN_ROUNDS rounds it is None,
    as are all numbers, and the sentence gives the reason.
    """

    metric: str
    a: str
    b: str
    family: str
    rounds: int
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    p_holm: float | None = None
    bootstrap_low: float | None = None
    bootstrap_high: float | None = None
    minimum_detectable_effect: float | None = None
    verdict: str | None = None
    more_minutes: float | None = None
    sentence: str

    @property
    def decided(self) -> bool:
        """Return whether one of the two is faster."""
        return self.verdict in {"a", "b"}

    @property
    def too_close(self) -> bool:
        """Return whether enough was seen, and no difference found."""
        return self.verdict == TOO_CLOSE

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, numbers to six digits."""
        found = {name: _six_digits(value) for name, value in asdict(self).items()}
        if self.more_minutes is None:
            del found["more_minutes"]
        return found | {"bootstrap": {"low": found.pop("bootstrap_low"), "high": found.pop("bootstrap_high")}}


def judge(latencies: Latencies, labels: Mapping[str, str], *, seed: int) -> tuple[Verdict, ...]:
    """Return a verdict on each hypothesis of the primary family; all other comparisons are descriptive.

    latencies: measurement to arrays aligned by round (an empty one where a round is missing). labels: what a sentence
    calls each measurement, engine and version in it. Raises ValueError for measurements that are not aligned or have no
    label.
    """
    check_aligned(latencies, labels)
    family = primary_family(latencies)
    ratios = log_ratios(latencies, family)
    autocorrelations = autocorrelation(family, ratios)
    # One with too few rounds still counts as a hypothesis: how many there are must not depend on what was seen.
    p_values = [
        float(intervals.t_p_value(logs, autocorrelations[each.metric])) if len(logs) >= MIN_ROUNDS else 1.0
        for each, logs in zip(family, ratios, strict=True)
    ]
    found = []
    for each, logs, p_value, p_holm in zip(family, ratios, p_values, intervals.holm(p_values).tolist(), strict=True):
        if len(logs) < MIN_ROUNDS:
            found.append(refused(each, len(logs), labels))
        else:
            measured = _measure(logs, autocorrelations[each.metric], seed, ALPHA / len(family))
            found.append(_decided(each, measured, (p_value, p_holm), labels))
    return tuple(found)


def primary_family(measurements: Iterable[str]) -> tuple[Hypothesis, ...]:
    """Return the hypotheses: every two paths reached the same way, and each path direct and through the gateway.

    Four paths reached both ways give 6 + 6 + 4 pairs on two percentiles: 32. The no-op server is not a path. A run that
    compares sides decides on them alone: every two sides of each path and way.
    Raises ValueError for a measurement that is not MODEL@STACK.direct or MODEL@STACK.gateway, with or without ~SIDE.
    """
    ways: dict[str, list[str]] = {DIRECT: [], GATEWAY: []}
    sides: dict[str, list[str]] = {}
    for measurement in sorted(measurements):
        name, _, side = measurement.partition("~")
        path, _, via = name.rpartition(".")
        if via not in ways or "@" not in path:
            raise ValueError(
                f"{measurement!r} is not a measurement; expected MODEL@STACK.direct or MODEL@STACK.gateway"
            )
        if side:
            sides.setdefault(name, []).append(measurement)
        elif path != NO_OP_PATH:
            ways[via].append(path)
    if sides:
        found = [(a, b, "side") for measurements in sides.values() for a, b in combinations(measurements, 2)]
        return tuple(Hypothesis(metric, *pair) for metric in METRICS for pair in found)
    pairs = [(f"{a}.{via}", f"{b}.{via}", "path") for via, paths in ways.items() for a, b in combinations(paths, 2)]
    both = [path for path in ways[DIRECT] if path in ways[GATEWAY]]
    pairs += [(f"{path}.{DIRECT}", f"{path}.{GATEWAY}", "gateway") for path in both]
    return tuple(Hypothesis(metric, *pair) for metric in METRICS for pair in pairs)


def check_aligned(latencies: Latencies, labels: Mapping[str, str]) -> None:
    """Raise ValueError for measurements that are not aligned by round, have no label, or an invalid latency."""
    if len({len(rounds) for rounds in latencies.values()}) > 1:
        counts = ", ".join(f"{measurement} {len(rounds)}" for measurement, rounds in sorted(latencies.items()))
        raise ValueError(
            f"the measurements are not aligned by round: {counts} rounds; give an empty array for a missing one"
        )
    for measurement, rounds in latencies.items():
        if measurement not in labels and measurement.rpartition(".")[0] != NO_OP_PATH:
            raise ValueError(f"{measurement} has no label; one that names engine and version is needed")
        if not all((np.isfinite(each) & (np.asarray(each) > 0)).all() for each in rounds):
            raise ValueError(f"{measurement} has an invalid latency: each must be a positive number of microseconds")


def log_ratios(latencies: Latencies, family: Iterable[Hypothesis]) -> list[Array]:
    """Return each hypothesis' log ratios, of the rounds in which both measurements have the percentile."""
    logs = {
        (measurement, metric): np.log(per_round(rounds, percent))
        for measurement, rounds in latencies.items()
        for metric, percent in METRICS.items()
    }
    differences = [logs[each.a, each.metric] - logs[each.b, each.metric] for each in family]
    return [difference[~np.isnan(difference)] for difference in differences]


def autocorrelation(family: Iterable[Hypothesis], ratios: Iterable[Array]) -> dict[str, float]:
    """Return the lag-1 autocorrelation for each metric: one estimate from all pairs.

    A pair's own 20 rounds would say too little: the correlation's standard error is 0.2.
    """
    found: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for each, logs in zip(family, ratios, strict=True):
        if len(logs) >= MIN_ROUNDS:
            found[each.metric].append(float(intervals.lag1_autocorrelation(logs)))
    return {metric: float(np.mean(seen)) if seen else 0.0 for metric, seen in found.items()}


class Measured(NamedTuple):
    """What is known of one ratio, whatever the others are."""

    rounds: int
    ratio: float
    low: float
    high: float
    bootstrap_low: float
    bootstrap_high: float
    minimum_detectable_effect: float


def _measure(logs: Array, autocorrelation: float, seed: int, alpha: float) -> Measured:
    interval, check = intervals.t_interval(logs, autocorrelation), intervals.bootstrap_interval(logs, seed)
    found = (logs.mean(), *interval, *check, intervals.minimum_detectable_effect(logs, alpha, autocorrelation))
    return Measured(len(logs), *(float(np.exp(value)) for value in found))


def refused(hypothesis: Hypothesis, rounds: int, labels: Mapping[str, str]) -> Verdict:
    """Return that there are too few rounds for a verdict."""
    metric, a, b, _ = hypothesis
    enough = f"{minimum_samples(METRICS[metric])} correct responses from both"
    sentence = f"{metric}: no verdict on {labels[a]} and {labels[b]}: {rounds} rounds have {enough}, {MIN_ROUNDS} must"
    return Verdict(**hypothesis._asdict(), rounds=rounds, sentence=sentence)


def _decided(
    hypothesis: Hypothesis, measured: Measured, p_values: tuple[float, float], labels: Mapping[str, str]
) -> Verdict:
    p_value, p_holm = p_values
    verdict = TOO_CLOSE if p_holm > ALPHA else "a" if measured.ratio < 1 else "b"
    sentence = in_words(hypothesis, measured, verdict, labels)
    numbers = measured._asdict() | {"p_value": p_value, "p_holm": p_holm}
    return Verdict(**hypothesis._asdict(), **numbers, verdict=verdict, sentence=sentence)


def in_words(hypothesis: Hypothesis, measured: Measured, verdict: str, labels: Mapping[str, str]) -> str:
    """Return a verdict in words: who is faster by how much, or what would have been found."""
    metric, a, b = hypothesis.metric, labels[hypothesis.a], labels[hypothesis.b]
    _, ratio, low, high, *_, detectable = measured
    if verdict == TOO_CLOSE:
        size = f"{a} to {b} is {ratio:.3f} (95 % CI {low:.3f}..{high:.3f})"
        return (
            f"{metric}: {TOO_CLOSE}: {size}; {_faster(1 / detectable)} % is found in {100 * POWER:.0f} % of such runs"
        )
    winner, loser = (a, b) if verdict == "a" else (b, a)
    if verdict == "b":
        ratio, low, high = 1 / ratio, 1 / high, 1 / low
    size = f"{_faster(ratio)} % (95 % CI {_faster(high)}..{_faster(low)})"
    return f"{metric}: {winner} is faster than {loser} by {size}"


def _faster(ratio: float) -> str:
    return f"{100 * (1 - ratio):.1f}"


def _six_digits(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value

"""Does our load test agree with MLPerf LoadGen and h2load? `python -m report crosscheck FOLDER` judges their rows.

Compared are medians over the rounds. p50: the two may differ by a share of the other instrument's, or by 150 us where
that is more. p99: the intervals of the two medians must overlap. The interval of a median of n rounds is a pair of
their order statistics, so nothing is assumed of how a p99 scatters: of five rounds the least and the greatest, which
hold the true median in 1 - 2 / 2^5 = 93.75 % of runs (Thompson, On confidence ranges for the median, Ann. Math.
Statist. 7, 1936).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import parquet

from report import schema
from report.intervals import at_most
from report.percentiles import per_round
from report.rows import NO_OP, MeasurementName, name_of
from report.schema import ReportError
from servepath.results.names import CROSSCHECK_FILE, EVEN, H2LOAD, LOADGEN, POISSON

# LoadGen's latency counts from the schedule; h2load has none.
TIMES: Mapping[str, str] = {POISSON: "response_us", LOADGEN: "response_us", EVEN: "service_us", H2LOAD: "service_us"}
# Of an interval's coverage: what five rounds reach.
COVERAGE = 0.9375
ALLOWED_US = 150.0
LOADGEN_SHARE, H2LOAD_SHARE = 0.10, 0.15


class Figure(NamedTuple):
    """An instrument's medians over the rounds, in microseconds, and the p99's bounds. None: too few samples."""

    p50_us: float | None
    p99_us: float | None
    p99_low_us: float | None
    p99_high_us: float | None


class Agreement(NamedTuple):
    """One comparison. agrees: None when it is inconclusive; why: what is compared, and by which bound."""

    what: str
    agrees: bool | None
    why: str


@dataclass(frozen=True, slots=True)
class Way:
    """A path reached one way: each instrument's figures, and whether they agree. reasons: against any comparison."""

    name: MeasurementName
    rounds: int
    figures: Mapping[str, Figure]
    agreements: tuple[Agreement, ...]
    reasons: tuple[str, ...]

    @property
    def agrees(self) -> bool | None:
        """Return whether all comparisons agree; None when one is inconclusive and none disagrees."""
        found = {one.agrees for one in self.agreements}
        if False in found:
            return False
        return None if self.reasons or None in found else True


@dataclass(frozen=True, slots=True)
class Check:
    """A whole cross-check; no_op: the no-op server, which is shown and not judged."""

    facts: Mapping[str, Any]
    ways: tuple[Way, ...]
    no_op: Way

    @property
    def loaded_again(self) -> int:
        """Return how many measurements failed first and count as they came out when repeated."""
        return sum(measurement["attempts"] > 1 for measurement in self.facts["measurements"])

    @property
    def agrees(self) -> bool:
        """Return whether all was measured, and our load test agrees with both instruments everywhere."""
        return bool(self.facts["complete"]) and all(way.agrees for way in self.ways)


def check(folder: Path) -> Check:
    """Evaluate a cross-check. Raises ReportError when a file is missing or invalid."""
    facts = schema.read(folder / CROSSCHECK_FILE, "crosscheck", missing="nothing there; run: make crosscheck")
    names = sorted(name_of(entry) for entry in facts["expected"])
    ways = tuple(_way(folder, facts, name) for name in names)
    return Check(facts, ways, _way(folder, facts, NO_OP))


def _way(folder: Path, facts: Mapping[str, Any], name: MeasurementName) -> Way:
    measurements = [measurement for measurement in facts["measurements"] if name_of(measurement) == name]
    times = {
        instrument: [
            _times(folder / measurement["rows"], column)
            for measurement in measurements
            if measurement["instrument"] == instrument
        ]
        for instrument, column in TIMES.items()
    }
    figures = {instrument: figure(rounds) for instrument, rounds in times.items()}
    return Way(
        name,
        min(len(rounds) for rounds in times.values()),
        figures,
        tuple(agreements(figures)),
        tuple(_reasons(measurements)),
    )


def _times(path: Path, column: str) -> npt.NDArray[np.float64]:
    """Return the measured times of a measurement's answered requests."""
    try:
        rows = parquet.read_table(path, columns=["phase", "ok", column]).to_pylist()
        return np.array([row[column] for row in rows if row["phase"] == "measure" and row["ok"]], dtype=np.float64)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ReportError(f"{path} is not a table of requests ({error}); run: make crosscheck") from error


def _reasons(measurements: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for count, what in (("errors", "unanswered"), ("wrong_answers", "wrong answers")):
        bad = sum(measurement[count] for measurement in measurements)
        if bad:
            by = ", ".join(sorted({measurement["instrument"] for measurement in measurements if measurement[count]}))
            yield f"{bad} {what} ({by}): a path with failures is not compared"


def figure(rounds: Sequence[npt.NDArray[np.float64]]) -> Figure:
    """Return the medians over the rounds of the measurements' percentiles; rounds: each measurement's times."""
    p50s, p99s = (sorted(per_round(rounds, percent)) for percent in ("50", "99"))
    low, high = median_interval(p99s)
    return Figure(_median(p50s), _median(p99s), low, high)


def _median(values: Sequence[float]) -> float | None:
    return None if not values or any(map(math.isnan, values)) else float(median(values))


def median_interval(ordered: Sequence[float]) -> tuple[float | None, float | None]:
    """Return an interval of the median of values in ascending order, or None twice where they are too few.

    The k-th least and k-th greatest, with the greatest k whose coverage, 1 - 2 P(Binomial(n, 1/2) < k), is enough.
    """
    count, taken = len(ordered), 0
    while taken < count / 2 and 1 - 2 * at_most(taken, count, 1 / 2) >= COVERAGE:
        taken += 1
    if not taken or any(map(math.isnan, ordered)):
        return None, None
    return float(ordered[taken - 1]), float(ordered[-taken])


def agreements(figures: Mapping[str, Figure]) -> Iterator[Agreement]:
    """Compare ours with LoadGen by response time, p50 and p99, and with h2load by service time, p50."""
    ours, loadgen, even, h2load = (figures[name] for name in (POISSON, LOADGEN, EVEN, H2LOAD))
    yield close("response p50, LoadGen", ours.p50_us, loadgen.p50_us, LOADGEN_SHARE)
    yield overlap("response p99, LoadGen", ours, loadgen)
    yield close("service p50, h2load", even.p50_us, h2load.p50_us, H2LOAD_SHARE)


def close(what: str, ours_us: float | None, theirs_us: float | None, share: float) -> Agreement:
    """Return whether ours is within `share` of theirs, or within ALLOWED_US where that is more."""
    if ours_us is None or theirs_us is None:
        return Agreement(what, None, "too few requests or rounds")
    allowed = max(share * theirs_us, ALLOWED_US)
    apart = ours_us - theirs_us
    return Agreement(what, abs(apart) <= allowed, f"{apart:+.0f} us apart, at most {allowed:.0f} us allowed")


def overlap(what: str, ours: Figure, theirs: Figure) -> Agreement:
    """Return whether the intervals of the p99s overlap."""
    bounds = (ours.p99_low_us, ours.p99_high_us, theirs.p99_low_us, theirs.p99_high_us)
    low, high, other_low, other_high = bounds
    if low is None or high is None or other_low is None or other_high is None:
        return Agreement(what, None, "too few requests or rounds")
    text = f"{low:.0f}..{high:.0f} us and {other_low:.0f}..{other_high:.0f} us"
    return Agreement(what, low <= other_high and other_low <= high, text)


def to_dict(found: Check) -> dict[str, Any]:
    """Return summary.json's content."""
    return {
        "agrees": found.agrees,
        "coverage_of_p99_intervals": COVERAGE,
        "loaded_again": found.loaded_again,
        "facts": {key: value for key, value in found.facts.items() if key != "measurements"},
        "paths": [_to_dict(way) for way in found.ways],
        "null_endpoint": _to_dict(found.no_op),
    }


def _to_dict(way: Way) -> dict[str, Any]:
    return {
        "model": way.name.model,
        "stack": way.name.stack,
        "via": way.name.via,
        "rounds": way.rounds,
        "agrees": way.agrees,
        "reasons": list(way.reasons),
        "agreements": [one._asdict() for one in way.agreements],
        "instruments": {name: {"time": TIMES[name]} | one._asdict() for name, one in way.figures.items()},
    }

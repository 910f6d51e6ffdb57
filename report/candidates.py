"""What can be deployed: each path of a run, one way and with its settings, and what was measured of it."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, NamedTuple

import numpy as np

from report import intervals, sequential
from report.documents.settings import DEFAULT
from report.estimates import Estimate, geometric_mean
from report.percentiles import per_round
from report.stats import Row, engine_label
from report.verdicts import METRICS, MIN_ROUNDS
from servepath.results.names import CLOSED, GATEWAY_CPU, GATEWAY_LOADED_MEMORY, LOADED_MEMORY, SERVER_CPU, VIAS

# What an entry of a file says that a search was ended by, if it says nothing else.
SERVER, WRONG_ANSWERS = "server", "wrong answers"
UNKNOWN = "unknown"
NOBODY = "not in this run"

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a run shows: its facts and rows, what was added to it, and whether its numbers may be used."""

    facts: Mapping[str, Any]
    rows: tuple[Row, ...]
    capacity: Mapping[str, Any] | None
    scorecard: Mapping[str, Any] | None
    valid: bool


class Settings(NamedTuple):
    """What a path's servers were set to, by name, and where that comes from, "" for what they have by themselves."""

    name: str = "defaults"
    origin: str = ""

    @classmethod
    def read(cls, said: str) -> "Settings":
        """Return what is meant by a path's `settings` in run.json, capacity.json or scorecard.json, "" for none.

        Of tuned ones the origin says when, for what, and which.
        """
        if said in {"", DEFAULT}:
            return cls()
        return cls(UNKNOWN) if said == UNKNOWN else cls("tuned", said.removeprefix("tuned "))


class Capacity(NamedTuple):
    """The highest certified rate at an objective, 0 where there is none.

    low..high: where the p99 crosses the objective, by its 99 % interval. open_ended: the path may do more.
    """

    rate_rps: float
    low_rps: float | None
    high_rps: float | None
    open_ended: bool

    @property
    def ends(self) -> tuple[float, float]:
        """Return the interval, with the rate itself for an end that was not found."""
        low, high = (self.rate_rps if end is None else end for end in (self.low_rps, self.high_rps))
        return low, high


class Cost(NamedTuple):
    """CPU seconds per request, the gateway's among them where it is in the way. values: of each measurement."""

    seconds: float
    values: tuple[float, ...]

    @property
    def estimate(self) -> Estimate:
        """Return the cost with its 95 % interval, which a scorecard of an earlier release has none of."""
        found = geometric_mean(self.values) if self.values else Estimate(self.seconds)
        return Estimate(self.seconds, found.low, found.high)


class Trial(NamedTuple):
    """A rate that the search for a capacity tried, and the p99 there."""

    rate_rps: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A path reached one way, with its settings. What was not measured is None.

    engine: with its version. loaded_p99_ms: under the run's own load, at loaded_rps. cores: that its servers could use
    when the capacity was measured. memory_mib: under load, the gateway's in it where it is in the way.
    """

    model: str
    stack: str
    via: str
    settings: Settings
    engine: str
    precision: str
    version: int | None
    sha256: str
    capacity: Capacity | None
    cores: float | None
    trials: tuple[Trial, ...]
    cost: Cost | None
    memory_mib: float | None
    loaded_rps: float
    loaded_p99_ms: Estimate | None

    @property
    def path(self) -> str:
        """Return MODEL@STACK."""
        return f"{self.model}@{self.stack}"

    @property
    def reduced(self) -> str:
        """Return the reduced precision that the path's name says, "" for full precision."""
        return _reduced(self.stack)

    @property
    def name(self) -> str:
        """Return the path, with its settings where they are not the defaults."""
        return self.path if self.settings.name == Settings().name else f"{self.path} ({self.settings.name})"

    @property
    def label(self) -> str:
        """Return the name with engine and version."""
        return f"{self.name} [{self.engine}]"

    @property
    def rate_rps(self) -> float:
        """Return the highest rate that is certified, 0 where none is."""
        return 0.0 if self.capacity is None else self.capacity.rate_rps

    def headroom(self, rate_rps: float) -> float | None:
        """Return how many times a rate it holds; None where it is not known to hold any."""
        return self.rate_rps / rate_rps if self.rate_rps else None

    def cores_for(self, rate_rps: float) -> int | None:
        """Return how many cores a rate takes, if a rate grows evenly with cores."""
        return math.ceil(rate_rps / self.rate_rps * self.cores) if self.rate_rps and self.cores else None

    def p99_at(self, rate_rps: float) -> Estimate | None:
        """Return the p99 at a rate in ms: the run's own, or between trials of the search; None where neither has it.

        Between trials its ends are the smallest and the greatest p99 at the rates next to it: they describe.
        """
        if self.loaded_p99_ms is not None and rate_rps == self.loaded_rps:
            return self.loaded_p99_ms
        return between(self.trials, rate_rps)


def between(trials: Sequence[Trial], rate_rps: float) -> Estimate | None:
    """Return the p99 at a rate by the trials next to it; None for a rate above all of them."""
    above = min((trial.rate_rps for trial in trials if trial.rate_rps >= rate_rps), default=None)
    if above is None:
        return None
    below = max((trial.rate_rps for trial in trials if trial.rate_rps <= rate_rps), default=None)
    upper = [trial.p99_ms for trial in trials if trial.rate_rps == above]
    lower = [trial.p99_ms for trial in trials if trial.rate_rps == below]
    if below is None:
        return Estimate(statistics.median(upper), None, max(upper))
    share = 0.0 if above == below else math.log(rate_rps / below) / math.log(above / below)
    value = statistics.median(lower) ** (1 - share) * statistics.median(upper) ** share
    return Estimate(value, min(*lower, *upper), max(*lower, *upper))


def candidates(evidence: Evidence, slo_p99_ms: float) -> tuple[Candidate, ...]:
    """Return every path, way and settings of the run's models that were loaded or searched, by name.

    A capacity that was added of a model that the run did not load says nothing about the run's question. Settings that
    were tuned at another time or for something else are others.
    A capacity at another objective than slo_p99_ms counts only where that one is stricter, and is a lower bound then.
    """
    searched, carded = evidence.capacity or {"paths": ()}, evidence.scorecard or {"scorecard": ()}
    rows = {(row.model, row.stack, row.via, settings_of(evidence.facts, row)): row for row in evidence.rows}
    entries = {(*_path_of(entry), entry["via"], _settings(entry)): entry for entry in searched["paths"]}
    cards = {(*_path_of(card), via, _settings_of_card(card, via)): card for card in carded["scorecard"] for via in VIAS}
    design = sequential.design_of(evidence.facts)
    models, found = {row.model for row in evidence.rows}, []
    for model, stack, via, settings in sorted({*rows, *entries}):
        if model not in models:
            continue
        row, entry = rows.get((model, stack, via, settings)), entries.get((model, stack, via, settings))
        card = cards.get((model, stack, via, settings))
        found.append(
            Candidate(
                model=model,
                stack=stack,
                via=via,
                settings=settings,
                engine=_engine(row, card),
                precision=_precision(evidence.facts, row, stack),
                version=row.version if row else None,
                sha256=row.sha256 if row else "",
                capacity=_capacity(entry, searched["slo_p99_ms"], slo_p99_ms) if entry else None,
                cores=entry["cores"] if entry else None,
                trials=tuple(_trials(entry["steps"])) if entry else (),
                cost=_cost(card, via) if card else None,
                memory_mib=_memory(card, via) if card else None,
                loaded_rps=float(evidence.facts["arguments"]["rate"]),
                loaded_p99_ms=_p99_ms(row, design.split if design else 1) if row else None,
            )
        )
    return tuple(found)


def precisions_of(evidence: Evidence) -> frozenset[str]:
    """Return the precisions that the run loaded: as servers and names of paths say, "" for full precision."""
    said = ((_precision(evidence.facts, row, row.stack), _reduced(row.stack)) for row in evidence.rows)
    return frozenset(chain.from_iterable(said))


def settings_of(facts: Mapping[str, Any], row: Row) -> Settings:
    """Return what run.json says of a row's settings, with the side for their name; the side "default" has defaults."""
    told = facts["fairness"]["paths"].get(row.name.key, {}).get("settings", {})
    found = Settings.read(str(told.get("value") or ""))
    if row.side == DEFAULT and not found.origin:
        return Settings()
    return found._replace(name=row.side) if row.side else found


def _settings(found: Entry) -> Settings:
    return Settings.read(found.get("settings", ""))


def _settings_of_card(card: Entry, via: str) -> Settings:
    own = _settings(card)
    return Settings.read(card["gateway_settings"]) if via == "gateway" and "gateway_settings" in card else own


def _path_of(entry: Entry) -> tuple[str, str]:
    return entry["model"], entry["stack"]


def _engine(row: Row | None, card: Entry | None) -> str:
    if row is not None:
        return row.engine_label
    return engine_label(card["engine"], card["engine_version"]) if card and card.get("engine") else NOBODY


def _precision(facts: Mapping[str, Any], row: Row | None, stack: str) -> str:
    """Return what the server said that it computes in, or what the path's name says."""
    manifest = facts["fairness"]["paths"].get(row.name.key, {}) if row else {}
    return str(manifest.get("precision", {}).get("value") or _reduced(stack) or UNKNOWN)


def _reduced(stack: str) -> str:
    return stack.partition(":")[2]


def _capacity(entry: Entry, measured_ms: float, slo_p99_ms: float) -> Capacity | None:
    limit, rate_rps = entry.get("limit", SERVER), entry["rate_rps"]
    if slo_p99_ms < measured_ms or (not rate_rps and limit not in {SERVER, WRONG_ANSWERS}):
        return None
    if slo_p99_ms > measured_ms:
        return Capacity(rate_rps, None, None, open_ended=True) if rate_rps else None
    if not rate_rps:
        return Capacity(0.0, None, None, open_ended=False)
    return Capacity(rate_rps, entry["low_rps"], entry["high_rps"], open_ended=limit != SERVER)


def _trials(steps: Iterable[Entry]) -> Iterable[Trial]:
    for step in steps:
        if step["p99_ms"] is not None and step.get("outcome") != "invalid":
            yield Trial(step["rate_rps"], step["p99_ms"])


def _cost(card: Entry, via: str) -> Cost | None:
    parts = [_figure(card, name) for name in (SERVER_CPU[via], *([GATEWAY_CPU] if via == "gateway" else []))]
    values = [part["value"] for part in parts if part and part["value"]]
    if len(values) < len(parts):
        return None
    series = [part.get("values", ()) for part in parts if part]
    alike = all(len(one) == len(other) for one, other in pairwise(series))
    sums = tuple(sum(each) / 1e3 for each in zip(*series, strict=True)) if alike else ()
    return Cost(sum(values) / 1e3, sums if all(each > 0 for each in sums) else ())


def _memory(card: Entry, via: str) -> float | None:
    parts = [_figure(card, name) for name in (LOADED_MEMORY, *([GATEWAY_LOADED_MEMORY] if via == "gateway" else []))]
    values = [part["value"] for part in parts if part and part["value"] is not None]
    return sum(values) if len(values) == len(parts) else None


def _figure(card: Entry, name: str) -> Entry | None:
    return next((figure for figure in card["figures"] if figure["name"] == name), None)


def _p99_ms(row: Row, split: int) -> Estimate | None:
    """Return the p99 of response times, the mean over the rounds, of which `split` together give one.

    Of a closed loop, which keeps no rate, None.
    """
    if row.load_model == CLOSED:
        return None
    seen_us = per_round(sequential.together(list(row.latencies_us.values()), split), METRICS["p99"])
    seen_us = seen_us[seen_us > 0]
    if len(seen_us) < MIN_ROUNDS:
        return None if row.response_p99_ms is None else Estimate(row.response_p99_ms)
    leaning = float(intervals.lag1_autocorrelation(np.log(seen_us)))
    return geometric_mean((seen_us / 1e3).tolist(), leaning)

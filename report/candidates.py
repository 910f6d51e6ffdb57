"""Reads the candidates of a run: each path, one way and with its settings, and what was measured of it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Any

import numpy as np

from report import intervals, sequential
from report.candidate import UNKNOWN, Candidate, Capacity, Cost, Settings, Trial, reduced_precision
from report.documents.settings import DEFAULT
from report.estimates import Estimate, geometric_mean
from report.percentiles import per_round
from report.stats import PathResult, engine_label
from report.verdicts import METRICS, MIN_ROUNDS
from servepath.results.names import CLOSED, GATEWAY_CPU, GATEWAY_LOADED_MEMORY, LOADED_MEMORY, SERVER_CPU, VIAS

# What an entry of a file says that a search was ended by, if it says nothing else.
SERVER, WRONG_ANSWERS = "server", "wrong answers"
# What a path can do that answers wrongly.
NOTHING = Capacity(0.0, None, 0.0, open_ended=False)
NOT_LOADED = "not in this run"

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a run shows: its facts and rows, what was added to it, and whether its numbers may be used."""

    facts: Mapping[str, Any]
    rows: tuple[PathResult, ...]
    capacity: Mapping[str, Any] | None
    scorecard: Mapping[str, Any] | None
    valid: bool


def candidates(evidence: Evidence, slo_p99_ms: float) -> tuple[Candidate, ...]:
    """Return every path, way and settings of the run's models that were loaded or searched, by name.

    A capacity that was added of a model that the run did not load says nothing about the run's question. Settings that
    were tuned at another time or for something else are others.
    A capacity at another objective than slo_p99_ms counts only where that one is stricter, and is a lower bound then.
    """
    searched, carded = evidence.capacity or {"paths": ()}, evidence.scorecard or {"scorecard": ()}
    rows = {(row.model, row.stack, row.via, settings_of(evidence.facts, row)): row for row in evidence.rows}
    entries = {(*_path_of(entry), entry["via"], _settings(entry)): entry for entry in searched["paths"]}
    ways = [
        ((*_path_of(card), via, _settings_of_card(card, via)), card) for card in carded["scorecard"] for via in VIAS
    ]
    # Two cards have one way in common where only the settings of the other differ: wrong answers in either count.
    cards, erring = dict(ways), {way for way, card in ways if _erred(card, way[2])}
    design = sequential.design_of(evidence.facts)
    models, found = {row.model for row in evidence.rows}, []
    for model, stack, via, settings in sorted({*rows, *entries}):
        if model not in models:
            continue
        row, entry = rows.get((model, stack, via, settings)), entries.get((model, stack, via, settings))
        card = cards.get((model, stack, via, settings))
        wrong = (model, stack, via, settings) in erring or bool(entry and entry.get("limit") == WRONG_ANSWERS)
        capacity = _capacity(entry, searched["slo_p99_ms"], slo_p99_ms) if entry else None
        found.append(
            Candidate(
                model=model,
                stack=stack,
                via=via,
                settings=settings,
                engine=_engine(row, card, entry),
                precision=_precision(evidence.facts, row, stack),
                version=row.version if row else None,
                sha256=row.sha256 if row else "",
                capacity=NOTHING if wrong else capacity,
                cores=entry["cores"] if entry else None,
                trials=tuple(_trials(entry["steps"])) if entry else (),
                cost=_cost(card, via) if card else None,
                memory_mib=_memory(card, via) if card else None,
                loaded_rps=float(evidence.facts["arguments"]["rate"]),
                loaded_p99_ms=_p99_ms(row, design.split if design else 1) if row else None,
                wrong_answers=wrong,
            )
        )
    return named_apart(found)


def named_apart(found: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return candidates with unique names: with the day of tuning, and with all settings where days are the same."""
    for longer in (_with_day, _with_all):
        names = Counter((each.path, each.via, each.settings.name) for each in found)
        found = [
            replace(each, settings=longer(each.settings))
            if each.settings.origin and names[each.path, each.via, each.settings.name] > 1
            else each
            for each in found
        ]
    return tuple(found)


def _with_day(settings: Settings) -> Settings:
    return settings._replace(name=f"tuned {settings.origin.split()[0].rstrip(';')}")


def _with_all(settings: Settings) -> Settings:
    return settings._replace(name=f"tuned {settings.origin}")


def precisions_of(evidence: Evidence) -> frozenset[str]:
    """Return the precisions that the run loaded: as servers and names of paths say, "" for full precision."""
    said = ((_precision(evidence.facts, row, row.stack), reduced_precision(row.stack)) for row in evidence.rows)
    return frozenset(chain.from_iterable(said))


def settings_of(facts: Mapping[str, Any], row: PathResult) -> Settings:
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


def _engine(row: PathResult | None, *added: Entry | None) -> str:
    if row is not None:
        return row.engine_label
    said = next((each for each in added if each and each.get("engine")), None)
    return engine_label(said["engine"], said["engine_version"]) if said else NOT_LOADED


def _precision(facts: Mapping[str, Any], row: PathResult | None, stack: str) -> str:
    """Return what the server said that it computes in, or what the path's name says."""
    manifest = facts["fairness"]["paths"].get(row.name.key, {}) if row else {}
    return str(manifest.get("precision", {}).get("value") or reduced_precision(stack) or UNKNOWN)


def _erred(card: Entry, via: str) -> bool:
    """Return whether there were wrong answers under the load of a scorecard."""
    return bool(card.get("gateway_wrong_answers" if via == "gateway" else "wrong_answers"))


def _capacity(entry: Entry, measured_ms: float, slo_p99_ms: float) -> Capacity | None:
    limit, rate_rps = entry.get("limit", SERVER), entry["rate_rps"]
    if slo_p99_ms < measured_ms or (not rate_rps and limit != SERVER):
        return None
    if slo_p99_ms > measured_ms:
        return Capacity(rate_rps, None, None, open_ended=True) if rate_rps else None
    if not rate_rps:
        # Earlier files have the lowest rate tried in the steps alone.
        lowest = min((step["rate_rps"] for step in entry["steps"]), default=None)
        return Capacity(0.0, None, entry["high_rps"] or lowest, open_ended=False)
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


def _p99_ms(row: PathResult, split: int) -> Estimate | None:
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

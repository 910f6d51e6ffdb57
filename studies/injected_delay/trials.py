"""Judging: what the report's statistics say of the two pairs of each run."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from report.intervals import ALPHA
from report.percentiles import per_round
from report.schema import ReportError
from report.sequential import AIM, EARLY, LEVEL, Design, design_of, judge_run, minutes_needed, standings, together
from report.stats import latencies
from report.summary import build
from report.verdicts import METRICS, Latencies, Verdict, primary_family
from servepath.results.names import TIME_UP
from studies.injected_delay.runs import ALIKE, INJECTED, A
from studies.simulation.trial import MEASUREMENTS

P50 = "p50"
# Hypotheses in a default run of four paths; a pair alone has two, and finds more easily.
FAMILY = len(primary_family(MEASUREMENTS))


@dataclass(frozen=True, slots=True)
class Trial:
    """One run, judged. reasons: why it is INVALID; then there is no verdict.

    alike: a against b, the same server; injected: a against the slower one. Each on p50 and p99, a family of its own.
    spread: by metric, the standard deviation of the rounds' log ratios of the alike pair. minutes: how long the run
    went on, None where its rounds were fixed. warned: see warned().
    """

    run: str
    started: str
    commit: str
    reasons: tuple[str, ...] = ()
    alike: tuple[Verdict, ...] = ()
    injected: tuple[Verdict, ...] = ()
    spread: Mapping[str, float] | None = None
    minutes: float | None = None
    warned: bool = False

    @property
    def false_alarm(self) -> bool:
        """Return whether a winner is named between identical servers, on p50 or p99."""
        return any(verdict.decided for verdict in self.alike)

    @property
    def found(self) -> bool:
        """Return whether the delay is found on p50."""
        return on(P50, self.injected).verdict == "a"

    @property
    def found_or_warned(self) -> bool:
        """Return whether the delay is found on p50, or the machine was said in time to be too noisy."""
        return self.found or self.warned

    @property
    def wrong_way(self) -> bool:
        """Return whether the delayed server is called the faster one on p50."""
        return on(P50, self.injected).verdict == "b"

    @property
    def found_at_once(self) -> bool:
        """Return whether the delay would be found on p50 as the only difference among FAMILY hypotheses."""
        p_value = on(P50, self.injected).p_value
        level = ALPHA if self.minutes is None else LEVEL
        return self.found and p_value is not None and p_value * FAMILY <= level


def on(metric: str, verdicts: tuple[Verdict, ...]) -> Verdict:
    """Return the verdict on a metric."""
    return next(verdict for verdict in verdicts if verdict.metric == metric)


def judged(folder: Path) -> Trial:
    """Evaluate one run. Raises ReportError for a run without the three sides."""
    summary = build(folder)
    facts = summary.facts
    trial = Trial(facts["run"], facts["started"], facts["git_commit"], summary.reasons)
    if trial.reasons:
        return trial
    rows = {row.side: row for row in summary.rows}
    if rows.keys() != {A, ALIKE, INJECTED}:
        raise ReportError(f"{folder} has the sides {', '.join(sorted(rows))}; {A}, {ALIKE}, {INJECTED} are judged")
    alike, injected = (latencies((rows[A], rows[other]), summary.rounds) for other in (ALIKE, INJECTED))
    labels = {row.name.key: row.label for row in summary.rows}
    verdicts = [judge_run(facts, pair, labels) for pair in (alike, injected)]
    refused = [verdict.sentence for pair in verdicts for verdict in pair if verdict.verdict is None]
    if refused:
        return replace(trial, reasons=tuple(refused))
    trial = replace(trial, alike=verdicts[0], injected=verdicts[1])
    if (design := design_of(facts)) is None:
        return replace(trial, spread=_spread(alike, 1))
    minutes = design.looks[-1].share * design.minutes
    return replace(trial, spread=_spread(alike, design.split), minutes=minutes, warned=warned(injected, design))


def warned(pair: Latencies, design: Design) -> bool:
    """Return whether the time ended first, and a forecast for this pair in its first half had said that it would."""
    early = [number for number, look in enumerate(design.looks, start=1) if look.share <= EARLY]
    return design.ended == TIME_UP and any(_too_long(pair, replace(design, looks=design.looks[:end])) for end in early)


def _too_long(pair: Latencies, design: Design) -> bool:
    return (minutes_needed(standings(pair, design), design) or 0) > design.minutes


def _spread(pair: Latencies, split: int) -> dict[str, float]:
    found = {}
    for metric, percent in METRICS.items():
        of = 1 if metric == AIM else split
        one, other = (np.log(per_round(together(rounds, of), percent)) for rounds in pair.values())
        found[metric] = float(np.nanstd(one - other, ddof=1))
    return found

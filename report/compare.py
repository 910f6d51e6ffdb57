"""Two runs side by side: refused when they cannot be compared, otherwise described; a verdict needs more runs.

Two runs say nothing about the spread between runs, so no interval of their ratio would be honest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from report.fairness import MUST_EQUAL, Difference, Manifest, differences
from report.schema import ReportError
from report.stats import PathResult
from report.summary import Summary

METRICS = ("p50_ms", "p99_ms")


@dataclass(frozen=True, slots=True)
class Ratio:
    """One path's percentile in both runs; ratio is the second to the first, None where either has none."""

    row: PathResult
    metric: str
    first_ms: float | None
    second_ms: float | None

    @property
    def ratio(self) -> float | None:
        """Return the second to the first."""
        return self.second_ms / self.first_ms if self.first_ms and self.second_ms else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs between two runs and may, subject or declared, the paths of both, and which only one of them has."""

    differences: tuple[Difference, ...]
    ratios: tuple[Ratio, ...]
    alone: tuple[str, ...]


def compare(first: Summary, second: Summary, *, allowed: Sequence[str] = ()) -> Comparison:
    """Compare two runs.

    Raises ReportError for a run that is not valid, a must-equal difference that is not in `allowed`, or a key in
    `allowed` that neither run has.
    """
    for summary in (first, second):
        if not summary.valid:
            raise ReportError(f"{summary.facts['run']} is not valid and cannot be compared: {summary.reasons[0]}")
    one, other = _manifests(first), _manifests(second)
    places = [place for place in one if place in other]
    found = tuple(item for place in places for item in differences({"A": one[place], "B": other[place]}, place))
    _refuse_unknown(allowed, first, second)
    undeclared: dict[str, Difference] = {}
    for item in found:
        if item.kind == MUST_EQUAL and item.key not in allowed:
            undeclared.setdefault(item.key, item)
    if undeclared:
        # One line a key, of the first path that differs in it: so all of them can be declared at once.
        lines = (
            f"{item}; this must be equal, --allow {key} declares the difference" for key, item in undeclared.items()
        )
        raise ReportError("\n".join(lines))
    return Comparison(found, _ratios(first, second), _alone(first, second))


def _manifests(summary: Summary) -> dict[str, Manifest]:
    """Return the manifests of the run itself and of each path; how requests were sent belongs to the first."""
    fairness: dict[str, Any] = summary.facts["fairness"]
    load_model = {"load_model": {"class": MUST_EQUAL, "value": summary.facts["load_model"]}}
    return {"": fairness["run"] | load_model, **fairness["paths"]}


def _refuse_unknown(allowed: Sequence[str], first: Summary, second: Summary) -> None:
    known = {key for summary in (first, second) for manifest in _manifests(summary).values() for key in manifest}
    for key in allowed:
        if key not in known:
            raise ReportError(f"--allow {key}: neither run has this key; known: {', '.join(sorted(known))}")


def _ratios(first: Summary, second: Summary) -> tuple[Ratio, ...]:
    prefix = "response_" if first.open_loop else ""
    others = {row.name: row for row in second.rows}
    return tuple(
        Ratio(row, metric, getattr(row, prefix + metric), getattr(others[row.name], prefix + metric))
        for row in first.rows
        if row.name in others
        for metric in METRICS
    )


def _alone(first: Summary, second: Summary) -> tuple[str, ...]:
    names = [{str(row.name) for row in summary.rows} for summary in (first, second)]
    return tuple(sorted(names[0] ^ names[1]))

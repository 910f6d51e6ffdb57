"""What other commands add to a run later: its capacity and its scorecard. None while they have not."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from report import schema
from report.summary import commit_label
from servepath.results.names import CAPACITY_FILE, COST_FILE

WANTED_RPS = 2000.0
# From here on two digits would be written as 1e+02.
WHOLE = 99.5
NO_RATE = {
    "wrong answers": "wrong answers",
    "generator": "the generator was the limit",
    "time": "no rate passed in time",
}


def capacity(folder: Path) -> Mapping[str, Any] | None:
    """Read RUN/capacity.json (report/schemas/capacity.schema.json). Raises ReportError when it is not such a file."""
    content = _read(folder / CAPACITY_FILE, "capacity")
    return None if content is None else dict(content["capacity"])


def scorecard(folder: Path) -> Mapping[str, Any] | None:
    """Read RUN/scorecard.json (report/schemas/scorecard.schema.json). Raises ReportError when it is not such a file."""
    return _read(folder / COST_FILE, "scorecard")


def origin(found: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Return the day and commit of an attachment where they differ from the run's, or "".

    found: what the addition's file says; what it does not say is not compared. facts: the run's.
    """
    day, commit = str(found.get("measured") or found.get("started") or "")[:10], str(found.get("git_commit") or "")
    if day in {"", facts["started"][:10]} and commit in {"", facts["git_commit"]}:
        return ""
    own = [f"on {day}" if day else "", f"of commit {commit_label(commit)}" if commit else ""]
    run = f"{facts['started'][:10]} and of {commit_label(facts['git_commit'])}"
    return f"measured {', '.join(filter(None, own))}; the run is of {run}"


class Answer(NamedTuple):
    """The capacity as a sentence: what was asked, what each path takes, and whether the search was cut short."""

    lead: str
    parts: tuple[str, ...]
    ended: str

    def __str__(self) -> str:
        return f"{self.lead} {', '.join(self.parts) or '-'}.{' ' if self.ended else ''}{self.ended}"


def capacity_answer(found: Mapping[str, Any], engines: Mapping[str, str]) -> Answer:
    """Return the capacity as a sentence. engines: engine and version by MODEL@STACK."""
    wanted_rps = found.get("wanted_rps", WANTED_RPS)
    parts = []
    for path in found["paths"]:
        name = f"{path['model']}@{path['stack']}"
        who = f"{name} {path['via']} [{engines.get(name, 'not in this run')}]"
        parts.append(f"{who} {_cores(path, wanted_rps)}")
    ended = "" if found.get("complete", True) else "The search was interrupted."
    return Answer(f"For {wanted_rps:,g} req/s at p99 below {found['slo_p99_ms']:g} ms:", tuple(parts), ended)


def capacity_rate(path: Mapping[str, Any]) -> str:
    """Return the rate that a path can do, or why there is none."""
    if path["rate_rps"] is None:
        return NO_RATE.get(path.get("limit", "server"), "none")
    rate = f"{path['rate_rps']:,.0f}"
    return {
        "generator": f"at least {rate} (the generator's limit)",
        "time": f"at least {rate} (the search ran out of time)",
    }.get(path.get("limit", "server"), rate)


def capacity_interval(path: Mapping[str, Any]) -> str:
    """Return the interval, "?" for an end that was not found."""
    bounds = (path["low_rps"], path["high_rps"])
    return "-" if bounds == (None, None) else "..".join("?" if bound is None else f"{bound:,.0f}" for bound in bounds)


def beyond(over: Mapping[str, Any]) -> str:
    """Return a sentence about a path under more than its capacity."""
    back = "did not recover" if over["recovery_s"] is None else f"recovered in {over['recovery_s']:.1f} s"
    codes = {code: count for code, count in over.get("codes", {}).items() if code != "OK"}
    named = f" ({', '.join(f'{code} {count:,}' for code, count in codes.items())})" if codes else ""
    doubt = "" if over.get("valid", True) else "; the generator could not keep its schedule"
    right, refused = f"{over['goodput_rps']:,.0f}/s correct in time", f"{over['refused_share']:.0%} refused"
    return f"{over['factor']:g}x: {right}, {refused}{named}, {back}{doubt}."


def instrument(path: Mapping[str, Any]) -> str:
    """Return a sentence about the generator at a path's rate, as the no-op server shows it; or ""."""
    null = path.get("null")
    if null is None:
        return ""
    p99 = "-" if null["p99_ms"] is None else f"{null['p99_ms']:.2f} ms"
    return f"The no-op server at {null['rate_rps']:,.0f} req/s: p99 {p99}, generator {null['generator_cpu']:.0%}."


def capacity_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each path: rate, interval, and what happens beyond."""
    for path in found["paths"]:
        more = " ".join([*(beyond(over) for over in path.get("overload", ())), instrument(path)])
        rates = f"{capacity_rate(path)} req/s, {capacity_interval(path)}"
        yield f"{path['model']}@{path['stack']} {path['via']}: {rates}. {more}".rstrip()


def _cores(path: Mapping[str, Any], wanted_rps: float) -> str:
    limit = path.get("limit", "server")
    if not path["rate_rps"]:
        return {"server": "does not meet it at any rate"}.get(limit, f"has no capacity ({NO_RATE.get(limit)})")
    if path["cores"] is None:
        times = wanted_rps / path["rate_rps"]
        return f"{times:.2g} times what it has" if times < WHOLE else f"{times:,.0f} times what it has"
    cores = math.ceil(wanted_rps / path["rate_rps"] * path["cores"])
    return f"{'' if limit == 'server' else 'at most '}{cores} core{'s' if cores > 1 else ''}"


def _read(path: Path, name: str) -> dict[str, Any] | None:
    return schema.read(path, name, missing="") if path.exists() else None

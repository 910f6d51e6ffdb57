"""What other commands add to a run later, capacity and scorecard, as sentences and tables."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from report.document import (
    Block,
    Bullets,
    Cell,
    Chart,
    Column,
    Definition,
    Definitions,
    Detail,
    Fold,
    Table,
    Text,
    Tone,
)
from report.documents.phrases import cells, commit_label, number, path_of
from report.documents.settings import DEFAULT
from report.stats import engine_label
from report.summary import Summary
from servepath.artifacts.commit import names_code

WANTED_RPS = 2000.0
# From here on two digits would be written as 1e+02.
WHOLE_TIMES = 99.5
# From here on the digits behind the point say nothing, and three digits would be written as 1e+03.
WHOLE = 999.5
NO_RATE = {
    "wrong answers": "wrong answers",
    "generator": "the generator was the limit",
    "time": "no rate passed in time",
}
ASSUMED = (
    "By the rate of each path per core; growth over cores is assumed, not measured; the load generator shares the "
    "cores where it runs on the same machine."
)
NOT_MEASURED = "not measured"
UNNAMED_CODE = "measured with code that no commit names: its paths and the run may be of different code"

Cards = Sequence[Mapping[str, Any]]


def origin(found: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Return the day and commit of an attachment where they differ from the run's, or are no proof of its code, or "".

    found: what the addition's file says; what it does not say is not compared. facts: the run's.
    """
    day, commit = str(found.get("measured") or found.get("started") or "")[:10], str(found.get("git_commit") or "")
    if day in {"", facts["started"][:10]} and commit in {"", facts["git_commit"]}:
        named = not commit or names_code(commit)
        return "" if named else UNNAMED_CODE
    own = [f"on {day}" if day else "", f"of commit {commit_label(commit)}" if commit else ""]
    run = f"{facts['started'][:10]} and of {commit_label(facts['git_commit'])}"
    return f"measured {', '.join(filter(None, own))}; the run is of {run}"


def _origin(name: str, found: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Text]:
    if when := origin(found, facts):
        yield Text(f"{name} {when}.", Tone.SOFT, Detail.BRIEF)


def capacity(summary: Summary, engines: Mapping[str, str], picture: Mapping[str, Any] | None) -> Iterator[Block]:
    """Yield the capacities as an answer, a picture and a table. engines: engine and version by MODEL@STACK."""
    found = summary.capacity
    if found is None:
        yield Text("Not measured: make capacity", detail=Detail.FULL)
        return
    wanted_rps = found.get("wanted_rps", WANTED_RPS)
    lead = f"For {wanted_rps:,g} req/s at p99 below {found['slo_p99_ms']:g} ms:"
    yield Text(lead if found["paths"] else f"{lead} -", Tone.STRONG, Detail.BRIEF)
    answers = (Text(_answer(path, wanted_rps, engines), detail=Detail.BRIEF) for path in found["paths"])
    yield Bullets(tuple(answers), dense=True)
    if not found.get("complete", True):
        yield Text("The search was interrupted.", detail=Detail.BRIEF)
    yield from _origin("Capacity", found, summary.facts)
    yield Text(ASSUMED, Tone.SOFT, Detail.FULL)
    if picture is not None:
        yield Chart("capacity", "", "", picture)
    columns = (
        Column("path", numeric=False),
        Column("via", numeric=False),
        Column(f"req/s at p99 below {found['slo_p99_ms']:g} ms"),
        Column("99 % CI"),
        Column("cores"),
        Column("beyond it", numeric=False, wide=True),
    )
    rows = tuple(_capacity_row(path) for path in found["paths"])
    yield Table("Capacity by path", columns, rows, Detail.USUAL)


def _capacity_row(path: Mapping[str, Any]) -> tuple[Cell, ...]:
    beyond = [*(_beyond(over) for over in path.get("overload", ())), _instrument(path)]
    if not path.get("overload"):
        beyond.insert(0, "not measured.")
    settings = path.get("settings", DEFAULT)
    return (
        Cell(path_of(path), aside="" if settings == DEFAULT else settings),
        Cell(path["via"]),
        Cell(capacity_rate(path), Tone.STRONG),
        *cells(_interval(path), number(path["cores"], "g"), "\n".join(filter(None, beyond))),
    )


def _answer(path: Mapping[str, Any], wanted_rps: float, engines: Mapping[str, str]) -> str:
    name = path_of(path)
    settings = path.get("settings", DEFAULT)
    own = engine_label(path["engine"], path["engine_version"]) if path.get("engine") else ""
    engine = own or engines.get(name, "not in this run")
    said = f"{name} {path['via']} [{engine}] {_cores(path, wanted_rps)}"
    return said if settings == DEFAULT else f"{said}; settings: {settings}"


def _cores(path: Mapping[str, Any], wanted_rps: float) -> str:
    limit = path.get("limit", "server")
    if not path["rate_rps"]:
        lowest = path["high_rps"]
        where = "at any rate that was tried" if lowest is None else f"at {lowest:,g} req/s, the lowest rate tried"
        return {"server": f"does not meet it {where}"}.get(limit, f"has no capacity ({NO_RATE.get(limit)})")
    if path["cores"] is None:
        times = wanted_rps / path["rate_rps"]
        return f"{times:.2g} times what it has" if times < WHOLE_TIMES else f"{times:,.0f} times what it has"
    cores = math.ceil(wanted_rps / path["rate_rps"] * path["cores"])
    return f"{'' if limit == 'server' else 'at most '}{cores} core{'s' if cores > 1 else ''}"


def capacity_rate(path: Mapping[str, Any]) -> str:
    """Return the rate that a path can do, or why there is none."""
    if path["rate_rps"] is None:
        return NO_RATE.get(path.get("limit", "server"), "none")
    rate = f"{path['rate_rps']:,.0f}"
    return {
        "generator": f"at least {rate} (the generator's limit)",
        "time": f"at least {rate} (the search ran out of time)",
    }.get(path.get("limit", "server"), rate)


def _interval(path: Mapping[str, Any]) -> str:
    """Return the interval, "?" for an end that was not found."""
    bounds = (path["low_rps"], path["high_rps"])
    return "-" if bounds == (None, None) else "..".join("?" if bound is None else f"{bound:,.0f}" for bound in bounds)


def _beyond(over: Mapping[str, Any]) -> str:
    """Return a sentence about a path under more than its capacity."""
    back = "did not recover" if over["recovery_s"] is None else f"recovered in {over['recovery_s']:.1f} s"
    codes = {code: count for code, count in over.get("codes", {}).items() if code != "OK"}
    named = f" ({', '.join(f'{code} {count:,}' for code, count in codes.items())})" if codes else ""
    doubt = "" if over.get("valid", True) else "; the generator could not keep its schedule"
    count = over.get("wrong_answers", 0)
    wrong = f", {count:,} wrong answer{'s' if count > 1 else ''}" if count else ""
    right, refused = f"{over['goodput_rps']:,.0f}/s correct in time", f"{over['refused_share']:.0%} refused"
    return f"{over['factor']:g}x: {right}, {refused}{named}{wrong}, {back}{doubt}."


def _instrument(path: Mapping[str, Any]) -> str:
    """Return a sentence about the generator at a path's rate, as the no-op server shows it; or ""."""
    no_op = path.get("null")
    if no_op is None:
        return ""
    p99 = "-" if no_op["p99_ms"] is None else f"{no_op['p99_ms']:.2f} ms"
    return f"The no-op server at {no_op['rate_rps']:,.0f} req/s: p99 {p99}, generator {no_op['generator_cpu']:.0%}."


class Figure(NamedTuple):
    """One figure of a scorecard. values: by path, as texts. notes: by what they say, the paths that they are about."""

    name: str
    unit: str
    values: tuple[str, ...]
    notes: Mapping[str, tuple[str, ...]]

    @property
    def heading(self) -> str:
        """Return name and unit."""
        return f"{self.name}, {self.unit}" if self.unit else self.name


def scorecard(summary: Summary) -> Iterator[Block]:
    """Yield the scorecard: a line for each figure, a column for each path, and how each was measured or why not."""
    if summary.scorecard is None:
        yield Text("Not measured: make scorecard", detail=Detail.FULL)
        return
    cards: Cards = summary.scorecard["scorecard"]
    found = figures(cards)
    yield from _origin("Scorecard", summary.scorecard, summary.facts)
    paths = (Column(path_of(card), aside=_who(card), detail=Detail.BRIEF) for card in cards)
    columns = (Column("what", numeric=False, detail=Detail.BRIEF), *paths)
    table = Table("Scorecard", columns, tuple(cells(figure.heading, *figure.values) for figure in found))
    yield Fold("All figures", (table,), opened=True)
    yield Bullets(tuple(Text(reason, Tone.SOFT) for reason in _reasons(found, cards)))
    notes = (
        Definition(figure.name, note, ", ".join(paths) if len(figure.notes) > 1 else "")
        for figure in found
        for note, paths in figure.notes.items()
        if note
    )
    yield Fold("How each was measured", (Definitions(tuple(notes)),))


def _who(card: Mapping[str, Any]) -> str:
    """Return who answered, and with which settings if they were not the defaults."""
    engine = engine_label(card["engine"], card["engine_version"]) if card.get("engine") else ""
    settings = card.get("gateway_settings", card.get("settings", DEFAULT))
    return ", ".join(filter(None, (engine, "" if settings == DEFAULT else settings)))


def figures(cards: Cards) -> list[Figure]:
    """Return the figures in the order in which they were written."""
    names = dict.fromkeys(figure["name"] for card in cards for figure in card["figures"])
    return [_figure(name, cards) for name in names]


def _figure(name: str, cards: Cards) -> Figure:
    found = [next((one for one in card["figures"] if one["name"] == name), None) for card in cards]
    notes: dict[str, tuple[str, ...]] = {}
    for card, figure in zip(cards, found, strict=True):
        note = "not in the scorecard of this path" if figure is None else figure.get("note", "")
        notes[note] = (*notes.get(note, ()), path_of(card))
    unit = next(figure["unit"] for figure in found if figure)
    return Figure(name, unit, tuple(_value(figure) for figure in found), notes)


def _value(figure: Mapping[str, Any] | None) -> str:
    if figure is None or figure["value"] is None:
        return NOT_MEASURED
    value = figure["value"]
    return f"{value:,.3g}" if value < WHOLE else f"{value:,.0f}"


def _reasons(found: Sequence[Figure], cards: Cards) -> list[str]:
    """Return sentences about what was not measured anywhere or on some path, and why; equal reasons once."""
    places = [path_of(card) for card in cards]
    whys: dict[str, list[str]] = {}
    for figure in found:
        for why, paths in figure.notes.items():
            lacking = [path for path in paths if figure.values[places.index(path)] == NOT_MEASURED]
            if lacking:
                who = "" if len(lacking) == len(cards) else f" of {', '.join(lacking)}"
                whys.setdefault(why, []).append(f"{figure.name}{who}")
    return [f"{NOT_MEASURED}: {', '.join(names)}: {why}" for why, names in whys.items()]

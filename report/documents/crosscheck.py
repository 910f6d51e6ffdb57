"""A cross-check as a document: each path's figures by each instrument, and whether they agree."""

from collections.abc import Iterator

from report.crosscheck import Check, Figure, Way
from report.document import Block, Cell, Column, Document, Section, Table, Text, Tone
from report.documents.phrases import cells, commit_label
from servepath.results.names import EVEN, H2LOAD, LOADGEN, POISSON

HEADINGS = {
    POISSON: ("response time", "ours, Poisson"),
    LOADGEN: ("response time", "LoadGen"),
    EVEN: ("service time", "ours, even"),
    H2LOAD: ("service time", "h2load"),
}
ANSWERS = {
    True: Cell("agree", Tone.GOOD),
    False: Cell("disagree", Tone.BAD),
    None: Cell("is inconclusive", Tone.DOUBT),
}


def document(found: Check) -> Document:
    """Return the table, every comparison that did not agree, and the answer."""
    facts, host = found.facts, found.facts["host"]
    commit = commit_label(str(facts["git_commit"]))
    lead = f"{host['cpu']}, {host['cores']} cores, commit {commit}, {facts['started']}"
    agrees = Text("our load test agrees with both", Tone.GOOD)
    closing = agrees if found.agrees else Text("no agreement shown", Tone.DOUBT)
    return Document("", (lead,), (Section("crosscheck", "", tuple(_blocks(found))),), closing=closing)


def _blocks(found: Check) -> Iterator[Block]:
    facts = found.facts
    words = (Column("path", numeric=False), Column("via", numeric=False))
    numbers = (Column(title, group) for group, title in HEADINGS.values())
    rows = [(*_cells(way), ANSWERS[way.agrees]) for way in found.ways]
    rows.append((*_cells(found.no_op), Cell("not judged", Tone.SOFT)))
    yield Table("Instruments", (*words, *numbers, Column("verdict", numeric=False)), tuple(rows))
    versions = ", ".join(f"{name} {facts['instruments'][name]['version']}" for name in (LOADGEN, H2LOAD))
    yield Text(
        f"{versions}; p50, and p99 with its interval, in us: medians of {facts['rounds']} rounds at "
        f"{facts['rate_rps']:g} requests/s. The no-op server answers at once: it shows the baseline overhead of "
        "the instruments.",
        Tone.SOFT,
    )
    if again := found.loaded_again:
        yield Text(f"{again} of {len(facts['measurements'])} measurements failed first and were repeated", Tone.SOFT)
    yield from _complaints(found)


def _complaints(found: Check) -> Iterator[Text]:
    if not found.facts["complete"]:
        yield Text("the cross-check is incomplete", Tone.BAD)
    for way in found.ways:
        for reason in way.reasons:
            yield Text(f"{way.name}: {reason}", Tone.BAD)
        for one in way.agreements:
            if not one.agrees:
                answer = ANSWERS[one.agrees]
                yield Text(f"{way.name}: {one.what}: {answer.text}, {one.why}", answer.tone)


def _cells(way: Way) -> tuple[Cell, ...]:
    return cells(way.name.path, way.name.via, *(_figure(way.figures[name]) for name in HEADINGS))


def _figure(figure: Figure) -> str:
    p50 = "-" if figure.p50_us is None else f"{figure.p50_us:,.0f}"
    if figure.p99_low_us is None:
        return f"{p50}  -"
    return f"{p50}  {figure.p99_us:,.0f} [{figure.p99_low_us:,.0f}..{figure.p99_high_us:,.0f}]"

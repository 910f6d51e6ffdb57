"""A run's Summary as a document: recommendation, verdicts, results, instrument, pictures, what was added, command."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from report import charts, fairness, series
from report.document import (
    Alert,
    Block,
    Bullets,
    Cell,
    Column,
    Detail,
    Document,
    Fold,
    Section,
    Swatch,
    Table,
    Text,
    Tone,
)
from report.documents import attachments
from report.documents.again import again, environment
from report.documents.payloads import agreement, payloads
from report.documents.phrases import WAYS, cells, milliseconds, number, path_of
from report.documents.pictures import open_loop, pictures
from report.documents.recommendation import recommendation
from report.documents.rule import early_end, rule
from report.documents.settings import settings
from report.rows import NO_OP, name_of
from report.stats import EMBEDDED, Proof, Row
from report.summary import Summary, gateway_overhead
from report.verdicts import METRICS, NOT_KNOWN, Verdict
from servepath.results.names import UNKNOWN_ARTIFACT

# What verdicts are about, by their family; of two paths, how both are reached.
ABOUT = {
    "path direct": "Between paths, reached directly",
    "path gateway": "Between paths, through the gateway",
    "gateway": "What the gateway costs",
    "side": "Between servers of the same path",
}


def document(summary: Summary) -> Document:
    """Return all that is said about a run."""
    drawn, lines = charts.charts(summary), series.series(summary)
    colours = charts.colours(lines)
    engines = {row.path: row.engine_label for row in summary.rows}
    sections = (
        Section("recommendation", "Recommendation", tuple(recommendation(summary.recommendation, colours))),
        Section("verdicts", "Verdicts", tuple(_verdicts(summary))),
        Section("results", "Results", tuple(_figures(summary, colours))),
        Section("settings", "Settings", tuple(settings(summary.facts))),
        Section("payloads", "What was sent", tuple(payloads(summary))),
        Section("instrument", "What the instrument is worth", tuple(_instrument(summary))),
        Section("pictures", "Pictures", tuple(pictures(summary, drawn, lines, colours))),
        Section("open loop", "What open loop means", tuple(open_loop(summary))),
        Section("capacity", "Capacity", tuple(attachments.capacity(summary, engines, drawn.get("capacity")))),
        Section("scorecard", "Scorecard", tuple(attachments.scorecard(summary))),
        Section("fairness", "Fairness", tuple(_fairness(summary.facts))),
        Section("again", "Do it again", tuple(again(summary))),
    )
    badge = Text("valid", Tone.GOOD) if summary.valid else Text("not valid", Tone.BAD)
    title = f"Deployment paths compared, {summary.facts['run']}"
    return Document(title, _lead(summary), sections, badge, tuple(_alerts(summary)), _closing(summary))


def _lead(summary: Summary) -> tuple[str, ...]:
    facts, host = summary.facts, summary.facts["host"]
    when = datetime.fromisoformat(facts["started"]).strftime("%-d %B %Y, %H:%M UTC")
    load = f"{facts['load_model']}, {facts['arguments']['rate']:g} requests a second on one path at a time"
    rounds = f"{len(summary.rounds)} rounds · warm-up excluded"
    machine = f"{host['cpu']}, {host['cores']} cores · servers: {environment(summary)}"
    return f"{when} · {load} · {rounds}", f"{machine} · commit {facts['git_commit']} · seed {facts['seed']}"


def _alerts(summary: Summary) -> Iterator[Alert]:
    if "synthetic" in summary.facts:
        yield Alert("not a measurement", "Not a measurement", (summary.facts["synthetic"],))
    if summary.reasons:
        yield Alert("not valid", "Why these numbers must not be used", summary.reasons)


def _closing(summary: Summary) -> Text | None:
    if not summary.answered:
        return None
    first = agreement(summary)
    said = f"every path returned the responses of {first}" if first else "every path returned correct responses"
    return Text(f"valid: {said}", Tone.GOOD) if summary.valid else Text(f"no verdict, but {said}", Tone.DOUBT)


def _verdicts(summary: Summary) -> Iterator[Block]:
    if not summary.valid:
        yield Text("None: a run that is not valid gives no verdict.", detail=Detail.FULL)
        yield from (Text(line, Tone.SOFT, Detail.BRIEF) for line in early_end(summary.facts))
    elif not summary.verdicts:
        yield Text("None: there are no two paths or ways to compare.", detail=Detail.FULL)
    else:
        yield Text(
            f"On {_kind(summary)} times. Each rests on the ratios inside the rounds; the confidence intervals are "
            "Student's, and what decides is corrected for the number of comparisons (Holm).",
            Tone.SOFT,
            Detail.FULL,
        )
        yield from (Text(line, Tone.SOFT, Detail.BRIEF) for line in rule(summary.facts))
        yield Bullets(tuple(Text(line, Tone.STRONG, Detail.BRIEF) for line in headlines(summary)))
        yield Text(_counted(summary.verdicts), detail=Detail.BRIEF)
        groups: dict[str, list[Verdict]] = {}
        for verdict in sorted(summary.verdicts, key=lambda each: not each.decided):
            via = verdict.a.rpartition(".")[2]
            groups.setdefault(f"path {via}" if verdict.family == "path" else verdict.family, []).append(verdict)
        for about, group in groups.items():
            yield Fold(ABOUT[about], (Bullets(tuple(_sentence(each) for each in group), dense=True),), opened=True)
        yield Fold("The numbers behind them", (_numbers(summary.verdicts),))


def _kind(summary: Summary) -> str:
    return "response" if summary.open_loop else "service"


def _counted(verdicts: Sequence[Verdict]) -> str:
    decided, close = (sum(map(of, verdicts)) for of in (lambda each: each.decided, lambda each: each.too_close))
    unknown = sum(each.verdict == NOT_KNOWN for each in verdicts)
    refused = len(verdicts) - decided - close - unknown
    more = f" {unknown} not known in the time," if unknown else ""
    return f"comparisons: {decided} decided, {close} too close to call,{more} {refused} with too few rounds"


def _sentence(verdict: Verdict) -> Text:
    decided = (Tone.PLAIN, Detail.BRIEF) if verdict.decided else (Tone.SOFT, Detail.USUAL)
    return Text(verdict.sentence, *decided)


def headlines(summary: Summary) -> Iterator[str]:
    """Yield the best paths, for each percentile and way that has verdicts on all its paths."""
    labels = {row.name.key: row.label for row in summary.rows}
    for metric, via in ((metric, via) for via in WAYS for metric in METRICS):
        group = [each for each in summary.verdicts if each.metric == metric and each.family == "path"]
        group = [each for each in group if each.a.endswith(f".{via}")]
        if group and all(each.verdict for each in group):
            beaten = {each.b if each.verdict == "a" else each.a for each in group if each.decided}
            best = sorted({key for each in group for key in (each.a, each.b)} - beaten)
            unknown = any(each.verdict == NOT_KNOWN and {each.a, each.b} <= {*best} for each in group)
            said = _best([labels[key] for key in best], len(group), unknown=unknown)
            yield f"{metric} of {_kind(summary)} times, {WAYS[via]}: {said}"


def _best(labels: list[str], pairs: int, *, unknown: bool) -> str:
    if len(labels) > 1:
        rest = "was not known when the time ended" if unknown else "is too close to call"
        return f"no path is faster than {' or '.join(labels)}; which of them is fastest {rest}"
    return f"{labels[0]} is faster than {'every other path' if pairs > 1 else 'the other path'}"


def _numbers(verdicts: Sequence[Verdict]) -> Table:
    titles = ("of", "rounds", "ratio a / b", "95 % CI", "bootstrap", "p", "p (Holm)", "smallest detectable")
    columns = (Column("a", numeric=False), Column("b", numeric=False), *map(Column, titles))
    rows = (cells(each.a, each.b, each.metric, str(each.rounds), *_measured(each)) for each in verdicts)
    return Table("Numbers behind the verdicts", columns, tuple(rows), Detail.FULL)


def _measured(verdict: Verdict) -> tuple[str, ...]:
    if verdict.ratio is None:
        return ("-",) * 6
    return (
        f"{verdict.ratio:.3f}",
        f"{verdict.low:.3f}..{verdict.high:.3f}",
        f"{verdict.bootstrap_low:.3f}..{verdict.bootstrap_high:.3f}",
        f"{verdict.p_value:.2g}",
        f"{verdict.p_holm:.2g}",
        f"{verdict.minimum_detectable_effect:.3f}",
    )


def _figures(summary: Summary, colours: Mapping[str, str]) -> Iterator[Block]:
    yield _results(summary, colours)
    yield Text(f"{legend(summary)}.", Tone.SOFT)
    proofs = {row.server: row.proof for row in summary.rows if row.proof}
    if proofs:
        lines = tuple(_proof(*each) for each in proofs.items())
        yield Fold("Difference from the reference, where each path is served", (Bullets(lines),), opened=True)
    if paths := dict.fromkeys(row.path for row in summary.rows if row.sha256 == UNKNOWN_ARTIFACT):
        said = "does not say which artifact it serves; its answers were checked like all others"
        yield Text(f"Provenance unknown: the server of {', '.join(paths)} {said}.", Tone.DOUBT, Detail.BRIEF)


def _proof(server: str, proof: Proof) -> Text:
    said = (
        "" if proof.difference is None else f"at most {proof.difference:.2g}",
        proof.refused and f"refused: {proof.refused}",
        proof.unbatched and f"not batched: {proof.unbatched}",
    )
    tone = Tone.BAD if proof.refused else Tone.DOUBT if proof.unbatched else Tone.SOFT
    return Text(f"{server}: {'; '.join(filter(None, said)) or 'not proven'}", tone, Detail.BRIEF)


def _results(summary: Summary, colours: Mapping[str, str]) -> Table:
    added_ms = {path_of(entry): entry["gateway_less_direct_p50_ms"] for entry in gateway_overhead(summary.rows)}
    columns = (
        Column("path", numeric=False, detail=Detail.BRIEF),
        Column("engine and version", numeric=False, below=True, wide=True, detail=Detail.BRIEF),
        Column("via", numeric=False, detail=Detail.BRIEF),
        Column("answered/s"),
        *(Column(title, detail=Detail.BRIEF) for title in ("requests", "errors", "wrong")),
        *_latency_columns(open_loop=summary.open_loop),
        Column("in gateway,\np50 added"),
    )
    rows = (
        (
            Cell(row.path, swatch=_swatch(colours, row.server, row.via)),
            _engine(row),
            Cell(row.way),
            Cell(f"{row.throughput_rps:,.1f}", aside=f"of {row.rate_rps:,g}"),
            Cell(f"{row.requests:,}"),
            _bad(row.errors),
            _bad(row.wrong_answers),
            *_latency_cells(row, open_loop=summary.open_loop),
            _in_gateway(row, added_ms),
        )
        for row in summary.rows
    )
    return Table("Results by path", columns, tuple(rows))


def _latency_columns(*, open_loop: bool) -> Iterator[Column]:
    brief, more = ("response", ("p50", "p99")) if open_loop else ("service", ())
    for title in ("p50", "p90", "p99", "p99.9"):
        yield Column(title, f"{brief}, ms", detail=Detail.BRIEF if title in {"p50", "p99"} else Detail.USUAL)
    for title in more:
        yield Column(title, "service, ms")


def _latency_cells(row: Row, *, open_loop: bool) -> Iterator[Cell]:
    service = (row.p50_ms, row.p90_ms, row.p99_ms, row.p999_ms)
    response = (row.response_p50_ms, row.response_p90_ms, row.response_p99_ms, row.response_p999_ms)
    tones = (Tone.STRONG, Tone.PLAIN, Tone.STRONG, Tone.PLAIN)
    for value, tone in zip(response if open_loop else service, tones, strict=True):
        yield Cell(milliseconds(value), tone)
    for value in (row.p50_ms, row.p99_ms) if open_loop else ():
        yield Cell(milliseconds(value))


def _engine(row: Row) -> Cell:
    if row.engine != EMBEDDED:
        return Cell(row.engine_label)
    return Cell(
        row.engine_label, Tone.DOUBT, note="a stand-in that speaks the server's protocol, not the server itself"
    )


def _bad(count: int) -> Cell:
    return Cell(f"{count:,}", Tone.BAD if count else Tone.PLAIN)


def _in_gateway(row: Row, added_ms: Mapping[str, float]) -> Cell:
    added = f"{added_ms[row.path]:+.3f} ms" if row.via == "gateway" and row.path in added_ms else ""
    return Cell(number(row.gateway_share, ".0%"), aside=added)


def _swatch(colours: Mapping[str, str], server: str, via: str) -> Swatch | None:
    return Swatch(colours[server], dashed=via == "gateway") if server in colours else None


def legend(summary: Summary) -> str:
    """Return what a reader must know to understand the numbers."""
    warmup = sum(row.warmup_requests for row in summary.rows)
    if summary.open_loop:
        model = (
            "requests are sent by a schedule; response time = reply received - scheduled; service time = reply - sent"
        )
    else:
        model = "closed loop: each user waits for its reply; service time = reply received - request sent"
    return (
        f"{summary.facts['load_model']}: {model}; {len(summary.rounds)} rounds; {warmup:,} warm-up requests are "
        "excluded; percentiles are nearest-rank, - means too few samples"
    )


def _instrument(summary: Summary) -> Iterator[Block]:
    yield Bullets(tuple(Text(line, Tone.SOFT, Detail.BRIEF) for line in instrument(summary)))
    warmed = tuple(Text(line, Tone.SOFT) for line in warm_up(summary))
    yield Fold("Warm-up", (Bullets(warmed),))
    numbers = map(Column, ("sent late p50, us", "p99, us", "by more than 1 ms", "generator, of a core"))
    columns = (Column("path", numeric=False), Column("via", numeric=False), *numbers)
    null = () if summary.null is None else (summary.null,)
    rows = (
        cells("no-op server" if row in null else row.path, row.way, *_late(row), number(row.generator_cpu, ".0%"))
        for row in (*summary.rows, *null)
    )
    yield Table("Lateness and CPU of the load generator by path", columns, tuple(rows), Detail.FULL)


def _late(row: Row) -> tuple[str, str, str]:
    if row.lateness is None:
        return "-", "-", "-"
    return f"{row.lateness.p50_us:,.0f}", f"{row.lateness.p99_us:,.0f}", f"{row.lateness.over_1ms_share:.2%}"


def instrument(summary: Summary) -> Iterator[str]:
    """Yield the baseline overhead, and how well the load generator kept its schedule."""
    null = summary.null
    if null is None:
        yield "no no-op server was loaded, so the baseline overhead is unknown"
    else:
        times = [("service", null.p50_ms, null.p99_ms)]
        times += [("response", null.response_p50_ms, null.response_p99_ms)] if null.response_p50_ms is not None else []
        shows = "; ".join(f"{kind} p50 {milliseconds(p50)} ms, p99 {milliseconds(p99)} ms" for kind, p50, p99 in times)
        yield f"baseline overhead (a no-op server): {shows}; no smaller difference is a path's own"
    delays = [(row.lateness.over_1ms_share, row.lateness.p99_us, row) for row in summary.rows if row.lateness]
    if delays:
        worst = max(delays, key=lambda each: each[:2])[2]
        p50, p99, share = _late(worst)
        yield f"scheduling delay at worst ({worst.name}): p50 {p50} us, p99 {p99} us, {share} by more than 1 ms"
    busiest = max((row.generator_cpu for row in summary.rows if row.generator_cpu is not None), default=None)
    if busiest is not None:
        yield f"the load generator used at most {busiest:.0%} of a core (mean of a path's measurements)"
    clock = summary.facts["clock"]
    drifts_us = [measurement["clock"]["drift_us"] for measurement in summary.facts["measurements"]]
    words = [f"steps of {clock['smallest_step_ns']} ns"]
    words += [str(clock[name]) for name in ("source", "timer") if name in clock]
    drift_us = max(drifts_us, default=0) - min(drifts_us, default=0)
    yield f"clock: {', '.join(words)}; the wall clock stayed within {drift_us:,.0f} us of it"


def warm_up(summary: Summary) -> Iterator[str]:
    """Yield how long each path was warmed up, and whether it was stable then."""
    for found in summary.facts["warmup"]:
        if found["stack"] != NO_OP.stack:
            state = "until its median was stable" if found["stable"] else "and its median was not stable yet"
            yield f"{name_of(found)}: {found['seconds']:.1f} s, {found['requests']:,} requests, {state}"


def _fairness(facts: Mapping[str, Any]) -> Iterator[Block]:
    allowed = f" Declared to differ: {', '.join(facts['allowed'])}." if facts["allowed"] else ""
    said = "What must be equal between paths, what is the subject of the comparison, and what is only noted."
    yield Text(said + allowed, Tone.SOFT, Detail.FULL)
    columns = (Column("key", numeric=False), Column("class", numeric=False), Column("value", numeric=False, wide=True))
    yield Table("Fairness manifest", columns, tuple(_manifest(facts["fairness"])), Detail.FULL)


def _manifest(found: Mapping[str, Any]) -> Iterator[tuple[Cell, ...]]:
    """Yield the fairness manifest by key: the run's, then the paths', one line where all have the same."""
    for key, item in found["run"].items():
        yield cells(key, item["class"], fairness.short(item["value"]))
    paths: Mapping[str, Any] = found["paths"]
    for key in dict.fromkeys(key for manifest in paths.values() for key in manifest):
        having = {name: items[key] for name, items in paths.items() if key in items}
        values = {name: fairness.short(item["value"]) for name, item in having.items()}
        same = len(set(values.values())) == 1 and len(values) == len(paths)
        said = [next(iter(values.values()))] if same else [f"{value} ({name})" for name, value in values.items()]
        yield cells(key, next(iter(having.values()))["class"], "\n".join(said))

"""A run's Summary as a document: recommendation, verdicts, results, instrument, pictures, what was added, command."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from report import charts, series
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
from report.documents.fairness import fairness
from report.documents.instrument import instrument
from report.documents.payloads import agreement, payloads
from report.documents.phrases import milliseconds, number, path_of
from report.documents.pictures import open_loop, pictures
from report.documents.recommendation import recommendation
from report.documents.settings import settings
from report.documents.verdicts import verdicts
from report.stats import EMBEDDED, PathResult, Proof
from report.summary import Summary, gateway_overhead
from servepath.results.names import UNKNOWN_ARTIFACT


def document(summary: Summary) -> Document:
    """Return all that is said about a run."""
    drawn, lines = charts.charts(summary), series.series(summary)
    colours = charts.colours(lines)
    engines = {row.path: row.engine_label for row in summary.rows}
    sections = (
        Section("recommendation", "Recommendation", tuple(recommendation(summary.recommendation, colours))),
        Section("verdicts", "Verdicts", tuple(verdicts(summary))),
        Section("results", "Results", tuple(_figures(summary, colours))),
        Section("settings", "Settings", tuple(settings(summary.facts))),
        Section("payloads", "What was sent", tuple(payloads(summary))),
        Section("instrument", "What the instrument is worth", tuple(instrument(summary))),
        Section("pictures", "Pictures", tuple(pictures(summary, drawn, lines, colours))),
        Section("open loop", "What open loop means", tuple(open_loop(summary))),
        Section("capacity", "Capacity", tuple(attachments.capacity(summary, engines, drawn.get("capacity")))),
        Section("scorecard", "Scorecard", tuple(attachments.scorecard(summary))),
        Section("fairness", "Fairness", tuple(fairness(summary.facts))),
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


def _latency_cells(row: PathResult, *, open_loop: bool) -> Iterator[Cell]:
    service = (row.p50_ms, row.p90_ms, row.p99_ms, row.p999_ms)
    response = (row.response_p50_ms, row.response_p90_ms, row.response_p99_ms, row.response_p999_ms)
    tones = (Tone.STRONG, Tone.PLAIN, Tone.STRONG, Tone.PLAIN)
    for value, tone in zip(response if open_loop else service, tones, strict=True):
        yield Cell(milliseconds(value), tone)
    for value in (row.p50_ms, row.p99_ms) if open_loop else ():
        yield Cell(milliseconds(value))


def _engine(row: PathResult) -> Cell:
    if row.engine != EMBEDDED:
        return Cell(row.engine_label)
    return Cell(
        row.engine_label, Tone.DOUBT, note="a stand-in that speaks the server's protocol, not the server itself"
    )


def _bad(count: int) -> Cell:
    return Cell(f"{count:,}", Tone.BAD if count else Tone.PLAIN)


def _in_gateway(row: PathResult, added_ms: Mapping[str, float]) -> Cell:
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

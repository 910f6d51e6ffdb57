"""The verdicts of a run: the best paths, how many comparisons are decided, each of them, and what they rest on."""

from collections.abc import Iterator, Sequence

from report.document import Block, Bullets, Column, Detail, Fold, Table, Text, Tone
from report.documents.phrases import WAYS, cells
from report.documents.rule import early_end, rule
from report.summary import Summary
from report.verdicts import METRICS, NOT_KNOWN, Verdict

# What verdicts are about, by their family; of two paths, how both are reached.
ABOUT = {
    "path direct": "Between paths, reached directly",
    "path gateway": "Between paths, through the gateway",
    "gateway": "What the gateway costs",
    "side": "Between servers of the same path",
}


def verdicts(summary: Summary) -> Iterator[Block]:
    """Yield the verdicts, or why there are none."""
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

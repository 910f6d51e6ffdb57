"""The summary as tables and sentences in the terminal."""

from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from report import cards
from report.compare import Comparison
from report.sentences import (
    capacity,
    coordinated_omission_warnings,
    environment,
    headlines,
    instrument,
    legend,
    milliseconds,
    origins,
    reproduce,
    share,
    warm_up,
)
from report.summary import Row, Summary, commit_label
from report.summary import compare as gateway_costs
from report.verdicts import TOO_CLOSE

WORDS = ("path", "engine", "via")
COUNTS = ("answered/s", "requests", "errors", "wrong")


def show(summary: Summary, console: Console) -> None:
    """Print verdicts, table, instrument, and either what stands against the run or that nothing does."""
    facts, host = summary.facts, summary.facts["host"]
    commit = commit_label(facts["git_commit"])
    console.print(f"[bold]{escape(facts['run'])}[/]  {host['cpu']}, {host['cores']} cores, commit {commit}")
    console.print(f"servers: {escape(environment(summary))}")
    for line in headlines(summary):
        console.print(f"[bold]{escape(line)}[/]")
    for line in _verdicts(summary):
        console.print(line)
    console.print(_table(summary))
    if summary.cards:
        console.print(_scorecard(summary.cards))
    for line in capacity(summary):
        console.print(escape(line))
    for line in (
        legend(summary),
        *instrument(summary),
        *warm_up(summary),
        *coordinated_omission_warnings(summary),
        *_costs(summary),
        *cards.reasons(cards.lines(summary.cards), summary.cards),
        *(f"{name}: {when}" for name, when in origins(summary)),
        *reproduce(summary),
    ):
        console.print(f"[dim]{escape(line)}[/]")
    for reason in summary.reasons:
        console.print(f"[red]not valid: {escape(reason)}[/]")
    if summary.answered:
        trusted = "valid: " if summary.valid else "no verdict, but "
        console.print(f"[{'green' if summary.valid else 'yellow'}]{trusted}every path returned correct responses[/]")


def show_comparison(comparison: Comparison, names: tuple[str, str], console: Console) -> None:
    """Print what differs between two runs, and each path's percentiles side by side."""
    for difference in comparison.differences:
        console.print(escape(f"{difference.kind} {difference}"))
    table = Table("path", "via", "percentile", header_style="bold")
    for heading in (f"{names[0]}, ms", f"{names[1]}, ms", "ratio"):
        table.add_column(heading, justify="right")
    for each in comparison.ratios:
        numbers = (milliseconds(each.first_ms), milliseconds(each.second_ms))
        ratio = "-" if each.ratio is None else f"{each.ratio:.3f}"
        table.add_row(escape(each.row.path), each.row.way, each.metric.removesuffix("_ms"), *numbers, ratio)
    console.print(table)
    for name in comparison.alone:
        console.print(f"{escape(name)} is in one of the runs only")
    console.print(
        "[dim]Described, not judged: two runs do not show how much runs differ; a verdict needs at least 5.[/]"
    )


def _verdicts(summary: Summary) -> Iterator[str]:
    for verdict in summary.verdicts:
        sentence = escape(verdict.sentence)
        yield f"[dim]{sentence}[/]" if verdict.verdict in {None, TOO_CLOSE} else sentence


def _costs(summary: Summary) -> Iterator[str]:
    for entry in gateway_costs(summary.rows):
        path, difference_ms = f"{entry['model']}@{entry['stack']}", entry["gateway_less_direct_p50_ms"]
        yield f"{path}: p50 of service times through the gateway less direct {difference_ms:+.3f} ms"


def _table(summary: Summary) -> Table:
    table = Table(header_style="bold", row_styles=("", "on grey11") if len(summary.rows) > 1 else ("",))
    for heading in WORDS:
        table.add_column(heading, overflow="fold", no_wrap=heading != "engine")
    for heading in (*COUNTS, *_latency_headings(summary), "in gateway"):
        table.add_column(heading, justify="right", overflow="fold")
    for row in summary.rows:
        table.add_row(*_cells(row, open_loop=summary.open_loop))
    return table


def _scorecard(found: cards.Cards) -> Table:
    table = Table("scorecard", header_style="bold")
    for path, engine in cards.headings(found):
        table.add_column(escape(f"{path}\n{engine}"), justify="right", overflow="fold")
    for line in cards.lines(found):
        table.add_row(escape(line.heading), *line.values)
    return table


def _latency_headings(summary: Summary) -> tuple[str, ...]:
    if summary.open_loop:
        return ("response\np50 ms", "\np90", "\np99", "\np99.9", "service\np50 ms", "\np99")
    return ("service\np50 ms", "\np90", "\np99", "\np99.9")


def _cells(row: Row, *, open_loop: bool) -> tuple[str, ...]:
    service = (row.p50_ms, row.p90_ms, row.p99_ms, row.p999_ms)
    response = (row.response_p50_ms, row.response_p90_ms, row.response_p99_ms, row.response_p999_ms)
    latencies = (*response, row.p50_ms, row.p99_ms) if open_loop else service
    return (
        escape(row.path),
        escape(row.engine_label),
        row.way,
        f"{row.throughput_rps:,.1f} of {row.rate_rps:,g}",
        f"{row.requests:,}",
        _bad(row.errors),
        _bad(row.wrong_answers),
        *(milliseconds(value) for value in latencies),
        share(row),
    )


def _bad(count: int) -> str:
    return f"[bold red]{count:,}[/]" if count else "0"

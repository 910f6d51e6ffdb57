"""The summary as a table in the terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from report.summary import Row, Summary, compare

HEADINGS = ("path", "engine", "via", "answered/s", "requests", "errors", "wrong")
LATENCIES = ("p50 ms", "p90 ms", "p99 ms", "p99.9 ms")


def show(summary: Summary, console: Console) -> None:
    """Print facts, table, and either what stands against the run or that nothing does."""
    facts, host = summary.facts, summary.facts["host"]
    console.print(f"[bold]{escape(facts['run'])}[/]  {host['cpu']}, {host['cores']} cores, commit {commit_of(summary)}")
    console.print(_table(summary))
    console.print(f"[dim]{escape(legend(summary))}[/]")
    for entry in compare(summary.rows):
        path, difference_ms = f"{entry['model']}@{entry['stack']}", entry["gateway_less_direct_p50_ms"]
        console.print(f"[dim]{escape(path)}: p50 through the gateway less direct {difference_ms:+.3f} ms[/]")
    for reason in summary.reasons:
        console.print(f"[red]not valid: {escape(reason)}[/]")
    if summary.valid:
        console.print("[green]valid: every path answered, and rightly[/]")


def commit_of(summary: Summary) -> str:
    """Give the commit's first letters, and whether files differed from it."""
    commit, dirty, _ = str(summary.facts["git_commit"]).partition("-dirty")
    return f"{commit[:10]}{dirty}"


def legend(summary: Summary) -> str:
    """Give what a reader must know to read the numbers."""
    warmup = sum(row.warmup_requests for row in summary.rows)
    return (
        f"{summary.facts['load_model']}: each user waits for its reply; service time = reply received - request sent; "
        f"{warmup:,} warm-up requests are excluded; percentiles are nearest-rank, - means too few samples for it"
    )


def milliseconds(value: float | None) -> str:
    """Give a latency in ms with three decimals, or "-" where there is none."""
    return "-" if value is None else f"{value:,.3f}"


def share(row: Row) -> str:
    """Give the gateway's own part of the service time, or "-"."""
    return "-" if row.gateway_share is None else f"{row.gateway_share:.0%}"


def _table(summary: Summary) -> Table:
    table = Table(header_style="bold", row_styles=("", "on grey11") if len(summary.rows) > 1 else ("",))
    for heading in (*HEADINGS, *LATENCIES, "in gateway"):
        text = heading in HEADINGS[:3]
        table.add_column(heading, justify="left" if text else "right", overflow="fold", no_wrap=heading != "engine")
    for row in summary.rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: Row) -> tuple[str, ...]:
    return (
        escape(row.path),
        escape(row.engine_label),
        row.via,
        f"{row.throughput_rps:,.1f} of {row.rate_rps:,g}",
        f"{row.requests:,}",
        _bad(row.errors),
        _bad(row.wrong_answers),
        *(milliseconds(value) for value in (row.p50_ms, row.p90_ms, row.p99_ms, row.p999_ms)),
        share(row),
    )


def _bad(count: int) -> str:
    return f"[bold red]{count:,}[/]" if count else "0"

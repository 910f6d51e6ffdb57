"""What was measured, on the terminal."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from studies.peers.figures import FIGURES, MedianInterval
from studies.peers.results import Result
from studies.peers.rows import ROWS, Row

HEADINGS = ("row", "ours", "peer", "ratio", "spread", "threshold", "target", "")


def layout(console: Console, host: Mapping[str, object], lines: Sequence[str]) -> None:
    """Print the machine and who runs where."""
    memory = int(str(host["memory_bytes"])) / 2**30
    console.print(f"[bold]{escape(str(host['cpu']))}[/], {host['cores']} cores, {memory:.0f} GiB")
    for line in lines:
        console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)


def table(console: Console, results: Sequence[Result], rounds: int) -> None:
    """Print a line a row, and below what is void or missing, and why."""
    shown = Table(header_style="bold", title=f"medians of {rounds} interleaved rounds")
    for heading in HEADINGS:
        shown.add_column(heading, justify="left" if heading in {"row", ""} else "right", no_wrap=True)
    for result in results:
        if result.spread is not None:
            shown.add_row(*_cells(result, result.spread))
    console.print(shown)
    for result in results:
        if result.why:
            console.print(f"[red]{escape(result.row.name)}: {escape(result.why)}[/]", highlight=False, soft_wrap=True)


def rows(console: Console) -> None:
    """Print the rows there are."""
    for row in ROWS:
        console.print(
            f"{row.name:22} {_what(row)}, {row.model}, {row.load}", highlight=False, markup=False, soft_wrap=True
        )


def _cells(result: Result, spread: MedianInterval) -> tuple[str, ...]:
    row = result.row
    return (
        row.name,
        _value(row, result.ours),
        _value(row, result.peer),
        f"[bold]{spread.middle:.2f}[/]",
        f"{spread.low:.2f}..{spread.high:.2f}",
        _aim(row, row.threshold),
        _aim(row, row.target),
        result.verdict,
    )


def _what(row: Row) -> str:
    return f"{row.ours} / {row.peer}: {FIGURES[row.figure].text}" + (f" over {row.base}" if row.base else "")


def _value(row: Row, value: float) -> str:
    number = f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"  # noqa: PLR2004 - four digits say enough
    return f"{number}{FIGURES[row.figure].unit}"


def _aim(row: Row, value: float | None) -> str:
    sign = "at least" if FIGURES[row.figure].more_is_better else "at most"
    return "" if value is None else f"{sign} {value:g}"

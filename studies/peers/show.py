"""What was measured, as documents for the terminal."""

from collections.abc import Mapping, Sequence

from report.document import Cell, Column, Document, Section, Table, Text, Tone
from studies.peers.figures import FIGURES, MedianInterval
from studies.peers.results import Result
from studies.peers.rows import ROWS, Row

COLUMNS = (
    Column("row", numeric=False),
    *map(Column, ("ours", "peer", "ratio", "spread", "threshold", "target")),
    Column("", numeric=False),
)


def layout(host: Mapping[str, object], lines: Sequence[str]) -> Document:
    """Return the machine and who runs where."""
    memory = int(str(host["memory_bytes"])) / 2**30
    return Document(f"{host['cpu']}, {host['cores']} cores, {memory:.0f} GiB", tuple(lines), ())


def table(results: Sequence[Result], rounds: int) -> Document:
    """Return one line per row, and below what is void or missing, and why."""
    measured = tuple(_cells(result, result.spread) for result in results if result.spread is not None)
    whys = (Text(f"{result.row.name}: {result.why}", Tone.BAD) for result in results if result.why)
    title = f"medians of {rounds} interleaved rounds"
    return Document("", (), (Section("rows", title, (Table(title, COLUMNS, measured), *whys)),))


def rows() -> Document:
    """Return the rows there are."""
    return Document("", tuple(f"{row.name:22} {_what(row)}, {row.model}, {row.load}" for row in ROWS), ())


def _cells(result: Result, spread: MedianInterval) -> tuple[Cell, ...]:
    row = result.row
    return (
        Cell(row.name),
        Cell(_value(row, result.ours)),
        Cell(_value(row, result.peer)),
        Cell(f"{spread.middle:.2f}", Tone.STRONG),
        Cell(f"{spread.low:.2f}..{spread.high:.2f}"),
        Cell(_aim(row, row.threshold)),
        Cell(_aim(row, row.target)),
        Cell(result.verdict),
    )


def _what(row: Row) -> str:
    return f"{row.ours} / {row.peer}: {FIGURES[row.figure].text}" + (f" over {row.base}" if row.base else "")


def _value(row: Row, value: float) -> str:
    number = f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"  # noqa: PLR2004 - four digits say enough
    return f"{number}{FIGURES[row.figure].unit}"


def _aim(row: Row, value: float | None) -> str:
    sign = "at least" if FIGURES[row.figure].more_is_better else "at most"
    return "" if value is None else f"{sign} {value:g}"

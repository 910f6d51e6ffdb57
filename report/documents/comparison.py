"""Two runs side by side as a document."""

from collections.abc import Iterator

from report.compare import Comparison
from report.document import Block, Column, Document, Section, Table, Text, Tone
from report.documents.phrases import cells, milliseconds, number

NOT_JUDGED = "Described, not judged: two runs do not show how much runs differ; a verdict needs at least 5."


def document(comparison: Comparison, names: tuple[str, str]) -> Document:
    """Return what differs between two runs, and each path's percentiles side by side."""
    return Document("", (), (Section("comparison", "", tuple(_blocks(comparison, names))),))


def _blocks(comparison: Comparison, names: tuple[str, str]) -> Iterator[Block]:
    for difference in comparison.differences:
        yield Text(f"{difference.kind} {difference}")
    words = tuple(Column(title, numeric=False) for title in ("path", "via", "percentile"))
    columns = (*words, Column(f"{names[0]}, ms"), Column(f"{names[1]}, ms"), Column("ratio"))
    rows = (
        cells(
            each.row.path,
            each.row.way,
            each.metric.removesuffix("_ms"),
            milliseconds(each.first_ms),
            milliseconds(each.second_ms),
            number(each.ratio, ".3f"),
        )
        for each in comparison.ratios
    )
    yield Table("Percentiles side by side", columns, tuple(rows))
    for name in comparison.alone:
        yield Text(f"{name} is in one of the runs only")
    yield Text(NOT_JUDGED, Tone.SOFT)

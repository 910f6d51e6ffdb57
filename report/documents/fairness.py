"""The fairness manifest: what was equal between paths, what is compared, and what is only noted."""

from collections.abc import Iterator, Mapping
from typing import Any

from report.document import Block, Cell, Column, Detail, Table, Text, Tone
from report.documents.phrases import cells
from report.fairness import short


def fairness(facts: Mapping[str, Any]) -> Iterator[Block]:
    """Yield the manifest, and what was declared to differ."""
    allowed = f" Declared to differ: {', '.join(facts['allowed'])}." if facts["allowed"] else ""
    said = "What must be equal between paths, what is the subject of the comparison, and what is only noted."
    yield Text(said + allowed, Tone.SOFT, Detail.FULL)
    columns = (Column("key", numeric=False), Column("class", numeric=False), Column("value", numeric=False, wide=True))
    yield Table("Fairness manifest", columns, tuple(_manifest(facts["fairness"])), Detail.FULL)


def _manifest(found: Mapping[str, Any]) -> Iterator[tuple[Cell, ...]]:
    """Yield the fairness manifest by key: the run's, then the paths', one line where all have the same."""
    for key, item in found["run"].items():
        yield cells(key, item["class"], short(item["value"]))
    paths: Mapping[str, Any] = found["paths"]
    for key in dict.fromkeys(key for manifest in paths.values() for key in manifest):
        having = {name: items[key] for name, items in paths.items() if key in items}
        values = {name: short(item["value"]) for name, item in having.items()}
        same = len(set(values.values())) == 1 and len(values) == len(paths)
        said = [next(iter(values.values()))] if same else [f"{value} ({name})" for name, value in values.items()]
        yield cells(key, next(iter(having.values()))["class"], "\n".join(said))

"""What several documents say in the same way."""

from collections.abc import Mapping
from typing import Any

from report.document import Cell

WAYS = {"direct": "reached directly", "gateway": "through the gateway"}


def milliseconds(value: float | None) -> str:
    """Return a latency in ms with three decimals, or "-" where there is none."""
    return number(value, ",.3f")


def number(value: float | None, form: str) -> str:
    """Return a number in that form, or "-" where there is none."""
    return "-" if value is None else format(value, form)


def cells(*texts: str) -> tuple[Cell, ...]:
    """Return a table's row of plain texts."""
    return tuple(Cell(text) for text in texts)


def path_of(entry: Mapping[str, Any]) -> str:
    """Return MODEL@STACK of an entry of a file."""
    return f"{entry['model']}@{entry['stack']}"


def commit_label(commit: str) -> str:
    """Return a commit's first letters, and whether files differed from it."""
    digits, dirty, _ = commit.partition("-dirty")
    return f"{digits[:10]}{dirty}"

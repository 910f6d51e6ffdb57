"""A figure of the scorecard, as report/schemas/scorecard.schema.json describes it."""

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

MIB = 2**20


class Figure(NamedTuple):
    """value: None when it was not measured; the note says how it was measured, or why not.

    values: of each measurement, where the value is their mean.
    """

    name: str
    value: float | None
    unit: str
    note: str
    values: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        found = self._asdict()
        values = found.pop("values")
        return found | ({"values": list(values)} if values else {})


def missing(name: str, unit: str, why: str) -> Figure:
    """Return a figure that was not measured."""
    return Figure(name, None, unit, why)


def spread(values: Sequence[float], what: str, digits: int = 2) -> tuple[float, str]:
    """Return the median, and a text that says of what, with the range."""
    low, high = min(values), max(values)
    return statistics.median(values), f"median of {len(values)} {what}, {low:.{digits}f}..{high:.{digits}f}"

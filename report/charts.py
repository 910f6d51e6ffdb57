"""The geometry of the report's two pictures, as SVG coordinates; page.html.j2 draws them.

Drawn by hand and not by a plotting library: two kinds of shape suffice, and the page stays small, sharp and readable
by screen readers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from report.percentiles import nearest_rank, rank_of
from report.summary import Array, Row

# Okabe and Ito's palette without yellow, darkened for white ground: told apart by colour-blind readers, too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#AA4499", "#7A5C00", "#3A9BD6", "#444444", "#882255")
BINS = 480
# Width of the smoothing kernel in decades of latency: 3 % of a value.
KERNEL_DECADES = 0.013
# Horizontal distance of "one more nine" in the tail picture.
TAIL_PERCENTS = ("0", "50", "90", "99", "99.9", "99.99")


class Tick(NamedTuple):
    """A labelled place on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Scale:
    """A logarithmic axis: milliseconds to SVG units."""

    low_ms: float
    high_ms: float
    begin: float
    end: float

    def at(self, value_ms: float) -> float:
        """Give the place of a latency."""
        part = math.log(value_ms / self.low_ms) / math.log(self.high_ms / self.low_ms)
        return round(self.begin + part * (self.end - self.begin), 2)

    def ticks(self) -> list[Tick]:
        """Give 1, 2, 5, 10, ... within the axis."""
        decades = range(math.floor(math.log10(self.low_ms)), math.ceil(math.log10(self.high_ms)) + 1)
        values = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
        return [Tick(self.at(value), f"{value:g}") for value in values if self.low_ms <= value <= self.high_ms]


class Mark(NamedTuple):
    """A percentile in a lane."""

    at: float
    name: str
    value_ms: float


class Lane(NamedTuple):
    """One row's distribution: an outline over its base line, its percentiles, and its slowest percent one by one."""

    row: Row
    colour: str
    base: float
    outline: str
    marks: list[Mark]
    slowest: list[float]


class Line(NamedTuple):
    """One row's latency by percentile, as the points of a polyline."""

    row: Row
    colour: str
    points: str


class Lanes(NamedTuple):
    """The first picture."""

    width: float
    height: float
    plot_left: float
    scale: Scale
    lanes: list[Lane]


class Tail(NamedTuple):
    """The second picture: percentiles to the right, latency upwards."""

    width: float
    height: float
    left: float
    right: float
    scale: Scale
    percents: list[Tick]
    lines: list[Line]


def colours(rows: Sequence[Row]) -> dict[str, str]:
    """Give one colour to each path; direct and gateway share it."""
    paths = list(dict.fromkeys(row.path for row in rows))
    return {path: COLOURS[number % len(COLOURS)] for number, path in enumerate(paths)}


def lanes(rows: Sequence[Row], *, width: float = 1040, lane: float = 62, left: float = 280) -> Lanes | None:
    """Give the distribution of each row that has right answers, or None when none has."""
    shown = [row for row in rows if len(row.service_ms)]
    if not shown:
        return None
    scale = _scale(shown, begin=left, end=width - 16)
    colour, drawn = colours(rows), []
    for number, row in enumerate(shown):
        base = (number + 1) * lane
        outline = _outline(row.service_ms, scale, base, height=lane * 0.72)
        drawn.append(Lane(row, colour[row.path], base, outline, _marks(row, scale), _slowest(row, scale)))
    return Lanes(width, len(shown) * lane + 40, left, scale, drawn)


def tail(rows: Sequence[Row], *, width: float = 1040, height: float = 380) -> Tail | None:
    """Give latency by percentile for each row, up to the last percentile that its samples can show."""
    shown = [row for row in rows if len(row.service_ms)]
    if not shown:
        return None
    left, right = 64.0, width - 20.0
    last = max(_last_nine(row) for row in shown)
    scale = _scale(shown, begin=height - 40, end=12)
    percents = [Tick(_across(percent, last, left, right), f"p{percent}") for percent in TAIL_PERCENTS]
    ticks = [Tick(place, "fastest" if label == "p0" else label) for place, label in percents if place <= right]
    colour = colours(rows)
    lines = [Line(row, colour[row.path], _points(row, last, scale, (left, right))) for row in shown]
    return Tail(width, height, left, right, scale, ticks, lines)


def _scale(rows: Sequence[Row], *, begin: float, end: float) -> Scale:
    low, high = min(row.service_ms[0] for row in rows), max(row.service_ms[-1] for row in rows)
    return Scale(float(low) * 0.9, float(high) * 1.1, begin, end)


def _outline(service_ms: Array, scale: Scale, base: float, height: float) -> str:
    """Give the polygon of a smoothed histogram over log latency, `height` high at its peak."""
    edges = np.linspace(math.log10(scale.low_ms), math.log10(scale.high_ms), BINS + 1)
    counts, _ = np.histogram(np.log10(service_ms), edges)
    step = edges[1] - edges[0]
    reach = np.arange(-BINS // 2, BINS // 2 + 1) * step
    density = np.convolve(counts, np.exp(-0.5 * (reach / KERNEL_DECADES) ** 2), mode="same")
    middles = 10 ** ((edges[:-1] + edges[1:]) / 2)
    tops = base - height * density[:BINS] / density.max()
    places = [(scale.at(x), round(float(y), 1)) for x, y in zip(middles.tolist(), tops.tolist(), strict=True)]
    points = " ".join(f"{x},{y}" for x, y in places)
    return f"{scale.begin},{base} {points} {scale.end},{base}"


def _marks(row: Row, scale: Scale) -> list[Mark]:
    named = (("p50", row.p50_ms), ("p99", row.p99_ms))
    return [Mark(scale.at(value), name, value) for name, value in named if value is not None]


def _slowest(row: Row, scale: Scale) -> list[float]:
    if row.p99_ms is None:
        return []
    return [scale.at(value) for value in row.service_ms[rank_of("99", len(row.service_ms)) :].tolist()]


def _last_nine(row: Row) -> float:
    """Give how many nines the row's slowest sample stands for: 3 for one in a thousand."""
    return math.log10(len(row.service_ms))


def _across(percent: str, last: float, left: float, right: float) -> float:
    nines = -math.log10(1 - float(percent) / 100)
    return round(left + (right - left) * nines / last, 2)


def _points(row: Row, last: float, scale: Scale, sides: tuple[float, float]) -> str:
    """Give one point for every half pixel or so: the sample at each of 400 evenly spaced numbers of nines."""
    ordered, (left, right) = row.service_ms, sides
    nines = np.linspace(0, _last_nine(row), 400)
    points = []
    for count in nines.tolist():
        percent = f"{100 * (1 - 10**-count):.6f}"
        x = round(left + (right - left) * count / last, 2)
        points.append(f"{x},{scale.at(nearest_rank(ordered, percent))}")
    return " ".join(points)

"""The scorecard as a table: a line for each figure, a column for each path, and how each was measured or why not."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from report.summary import engine_label

NOT_MEASURED = "not measured"
# From here on the digits behind the point say nothing, and three digits would be written as 1e+03.
WHOLE = 999.5


class Line(NamedTuple):
    """One figure. values: by path, as texts. notes: by what they say, the paths that they are about."""

    name: str
    unit: str
    values: tuple[str, ...]
    notes: Mapping[str, tuple[str, ...]]

    @property
    def heading(self) -> str:
        """Return name and unit."""
        return f"{self.name}, {self.unit}" if self.unit else self.name


Cards = Sequence[Mapping[str, Any]]


def headings(cards: Cards) -> list[tuple[str, str]]:
    """Return each path with the engine that was measured, an empty text where the file does not say."""
    return [(_path(card), _engine(card)) for card in cards]


def lines(cards: Cards) -> list[Line]:
    """Return the table in the order in which the figures were written."""
    names = dict.fromkeys(figure["name"] for card in cards for figure in card["figures"])
    return [_line(name, cards) for name in names]


def reasons(found: Sequence[Line], cards: Cards) -> list[str]:
    """Return sentences about what was not measured anywhere or on some path, and why; equal reasons once."""
    whys: dict[str, list[str]] = {}
    for line in found:
        for why, paths in line.notes.items():
            lacking = [path for path in paths if line.values[_position(cards, path)] == NOT_MEASURED]
            if lacking:
                who = "" if len(lacking) == len(cards) else f" of {', '.join(lacking)}"
                whys.setdefault(why, []).append(f"{line.name}{who}")
    return [f"{NOT_MEASURED}: {', '.join(names)}: {why}" for why, names in whys.items()]


def _line(name: str, cards: Cards) -> Line:
    figures = [next((one for one in card["figures"] if one["name"] == name), None) for card in cards]
    notes: dict[str, tuple[str, ...]] = {}
    for card, figure in zip(cards, figures, strict=True):
        note = "not in the scorecard of this path" if figure is None else figure.get("note", "")
        notes[note] = (*notes.get(note, ()), _path(card))
    unit = next(figure["unit"] for figure in figures if figure)
    return Line(name, unit, tuple(_value(figure) for figure in figures), notes)


def _value(figure: Mapping[str, Any] | None) -> str:
    if figure is None or figure["value"] is None:
        return NOT_MEASURED
    value = figure["value"]
    return f"{value:,.3g}" if value < WHOLE else f"{value:,.0f}"


def _path(card: Mapping[str, Any]) -> str:
    return f"{card['model']}@{card['stack']}"


def _engine(card: Mapping[str, Any]) -> str:
    return engine_label(card["engine"], card["engine_version"]) if card.get("engine") else ""


def _position(cards: Cards, path: str) -> int:
    return [_path(card) for card in cards].index(path)

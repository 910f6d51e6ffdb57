"""What a reader sees, as a tree of sections, tables and sentences; report/documents builds it, report/writers shows it.

It knows nothing of statistics, and nothing of terminals, Markdown or HTML. Every text is plain: a writer escapes it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, IntEnum
from typing import Any, TypeVar

Item = TypeVar("Item")


class Detail(IntEnum):
    """How much a reader wants to see: what is shown at one is shown at those below it, too."""

    BRIEF = 1
    USUAL = 2
    FULL = 3


class Tone(Enum):
    """How a text is meant; a writer chooses what that looks like."""

    PLAIN = "plain"
    SOFT = "soft"
    STRONG = "strong"
    GOOD = "good"
    DOUBT = "doubt"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Text:
    """A sentence or paragraph."""

    text: str
    tone: Tone = Tone.PLAIN
    detail: Detail = Detail.USUAL


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list. dense: of many long items, which may stand in columns."""

    items: tuple[Text, ...]
    dense: bool = False


@dataclass(frozen=True, slots=True)
class Code:
    """A command, to be copied."""

    text: str
    detail: Detail = Detail.USUAL


@dataclass(frozen=True, slots=True)
class Definition:
    """A term and what it means; aside: whom that is about."""

    term: str
    meaning: str
    aside: str = ""


@dataclass(frozen=True, slots=True)
class Definitions:
    """A list of terms."""

    items: tuple[Definition, ...]
    detail: Detail = Detail.FULL


@dataclass(frozen=True, slots=True)
class Swatch:
    """How the pictures draw a line."""

    colour: str
    dashed: bool


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table. aside: what belongs to it and matters less. note: an explanation of the text."""

    text: str
    tone: Tone = Tone.PLAIN
    aside: str = ""
    note: str = ""
    swatch: Swatch | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A column's heading. group: what it shares with its neighbours. numeric: aligned to the right.

    wide: of whole sentences, a line each. below: may stand below the column before it where there is little room.
    """

    title: str
    group: str = ""
    aside: str = ""
    numeric: bool = True
    wide: bool = False
    below: bool = False
    detail: Detail = Detail.USUAL


@dataclass(frozen=True, slots=True)
class Table:
    """A table; its label says what it shows to those who do not see it."""

    label: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    detail: Detail = Detail.BRIEF


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture: its name, and its Vega-Lite specification."""

    name: str
    title: str
    caption: str
    specification: Mapping[str, Any]
    detail: Detail = Detail.FULL


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the pictures, which a reader may hide."""

    key: int
    name: str
    aside: str
    swatch: Swatch


@dataclass(frozen=True, slots=True)
class Controls:
    """What a reader may choose in the pictures. two_times: response and service times."""

    two_times: bool
    lines: tuple[Line, ...]
    rounds: tuple[int, ...]
    detail: Detail = Detail.FULL


@dataclass(frozen=True, slots=True)
class Fold:
    """What may be folded away under a title; opened: shown at first."""

    title: str
    blocks: "tuple[Block, ...]"
    opened: bool = False


Block = Text | Bullets | Code | Definitions | Table | Chart | Controls | Fold


@dataclass(frozen=True, slots=True)
class Section:
    """A part with a heading and a short name to refer to."""

    name: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Alert:
    """What a reader must not overlook: a label for each of its reasons, and a title over all of them."""

    label: str
    title: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report. badge: its state in a word. closing: the outcome in a sentence, for who reads the end first."""

    title: str
    lead: tuple[str, ...]
    sections: tuple[Section, ...]
    badge: Text | None = None
    alerts: tuple[Alert, ...] = ()
    closing: Text | None = None


def trim(document: Document, detail: Detail) -> Document:
    """Return the document without what is more than that detail, and without what that leaves empty."""
    sections = (replace(each, blocks=tuple(_trimmed(each.blocks, detail))) for each in document.sections)
    return replace(document, sections=tuple(each for each in sections if each.blocks))


def _trimmed(blocks: Sequence[Block], detail: Detail) -> Iterator[Block]:
    for block in blocks:
        match block:
            case Fold():
                if inside := tuple(_trimmed(block.blocks, detail)):
                    yield replace(block, blocks=inside)
            case Bullets():
                if items := tuple(item for item in block.items if item.detail <= detail):
                    yield replace(block, items=items)
            case Table() if block.detail <= detail:
                shown = [column.detail <= detail for column in block.columns]
                yield replace(
                    block,
                    columns=_kept(block.columns, shown),
                    rows=tuple(_kept(row, shown) for row in block.rows),
                )
            case _ if block.detail <= detail:
                yield block


def _kept(values: tuple[Item, ...], shown: Sequence[bool]) -> tuple[Item, ...]:
    return tuple(value for value, here in zip(values, shown, strict=True) if here)

"""A document as plain text, to look for what it says whoever writes it."""

from collections.abc import Iterable, Iterator

from report.document import (
    Block,
    Bullets,
    Chart,
    Code,
    Controls,
    Definitions,
    Detail,
    Document,
    Fold,
    Table,
    Text,
    trim,
)


def plain(document: Document, detail: Detail = Detail.FULL) -> str:
    """Return a line for each sentence, row and reason, in the order of the document."""
    return "\n".join(_lines(trim(document, detail)))


def _lines(document: Document) -> Iterator[str]:
    yield document.title
    yield from document.lead
    for alert in document.alerts:
        yield from (f"{alert.label}: {reason}" for reason in alert.reasons)
    for section in document.sections:
        yield section.title
        yield from _of(section.blocks)
    if document.closing:
        yield document.closing.text


def _of(blocks: Iterable[Block]) -> Iterator[str]:
    for block in blocks:
        match block:
            case Text() | Code():
                yield block.text
            case Bullets():
                yield from (item.text for item in block.items)
            case Definitions():
                yield from (" ".join(filter(None, (each.term, each.aside, each.meaning))) for each in block.items)
            case Table():
                yield " ".join(f"{column.title} {column.aside}".strip() for column in block.columns)
                for row in block.rows:
                    yield " ".join(f"{cell.text} {cell.aside}".strip() for cell in row)
            case Fold():
                yield block.title
                yield from _of(block.blocks)
            case Chart():
                yield block.title
            case Controls():
                yield from (line.name for line in block.lines)

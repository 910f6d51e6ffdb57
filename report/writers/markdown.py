"""A document as a short Markdown text for a pull request."""

import re
from collections.abc import Iterator

from report.document import Block, Bullets, Code, Definitions, Detail, Document, Fold, Table, Text, trim


def render(document: Document) -> str:
    """Return the text."""
    return re.sub(r"\n{3,}", "\n\n", "\n".join(_lines(trim(document, Detail.BRIEF)))) + "\n"


def _lines(document: Document) -> Iterator[str]:
    badge = "" if document.badge is None else f": {document.badge.text}"
    yield f"### {escape(document.title)}{badge}"
    yield from (f"{escape(line)}  " for line in document.lead)
    yield ""
    for alert in document.alerts:
        yield from (f"- **{alert.label}**: {escape(reason)}" for reason in alert.reasons)
    for section in document.sections:
        yield f"\n**{escape(section.title)}**\n"
        yield from _blocks(section.blocks)


def _blocks(blocks: tuple[Block, ...]) -> Iterator[str]:
    for block in blocks:
        match block:
            case Text():
                yield f"{escape(block.text)}  "
            case Bullets():
                yield from (f"- {escape(item.text)}" for item in block.items)
                yield ""
            case Code():
                yield f"    {block.text}"
            case Definitions():
                for each in block.items:
                    yield f"- {escape(' '.join(filter(None, (each.term, each.aside))))}: {escape(each.meaning)}"
            case Table():
                yield from _table(block)
            case Fold():
                # GitHub folds this; Markdown inside wants an empty line around it.
                yield f"<details><summary>{escape(block.title)}</summary>\n"
                yield from _blocks(block.blocks)
                yield "\n</details>\n"
            case _:
                raise TypeError(f"Markdown does not show {block}")


def _table(table: Table) -> Iterator[str]:
    titles = (" ".join(filter(None, (column.title, column.group))) for column in table.columns)
    yield _row(titles)
    yield f"|{'---|' * len(table.columns)}"
    for row in table.rows:
        yield _row(" ".join(filter(None, (cell.text, cell.aside))) for cell in row)
    yield ""


def _row(texts: Iterator[str]) -> str:
    return f"| {' | '.join(map(escape, texts))} |"


def escape(text: str) -> str:
    """Escape a text so that it cannot break out of a table or become markup: engines name themselves."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")

"""A document on a terminal."""

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text as Styled

from report.document import (
    Block,
    Bullets,
    Cell,
    Code,
    Definitions,
    Detail,
    Document,
    Fold,
    Table,
    Text,
    Tone,
    trim,
)

STYLES = {
    Tone.PLAIN: "",
    Tone.SOFT: "dim",
    Tone.STRONG: "bold",
    Tone.GOOD: "green",
    Tone.DOUBT: "yellow",
    Tone.BAD: "bold red",
}


def show(document: Document, console: Console) -> None:
    """Print a document; what must not be overlooked comes last, where the eye is."""
    shown = trim(document, Detail.USUAL)
    if shown.title:
        console.print(Styled(shown.title, "bold"))
    for line in shown.lead:
        console.print(Styled(line), soft_wrap=True)
    for section in shown.sections:
        if section.title:
            console.print()
            console.print(Styled(section.title, "bold underline"))
        _show_all(section.blocks, console)
    for alert in shown.alerts:
        for reason in alert.reasons:
            console.print(Styled(f"{alert.label}: {reason}", "red"), soft_wrap=True)
    if shown.closing:
        console.print(_styled(shown.closing), soft_wrap=True)


def _show_all(blocks: tuple[Block, ...], console: Console) -> None:
    for block in blocks:
        match block:
            case Text():
                console.print(_styled(block))
            case Bullets():
                for item in block.items:
                    console.print(Styled("- ", STYLES[item.tone]) + _styled(item))
            case Code():
                console.print(Styled(block.text), soft_wrap=True)
            case Definitions():
                for each in block.items:
                    console.print(Styled(f"{' '.join(filter(None, (each.term, each.aside)))}: {each.meaning}"))
            case Table():
                console.print(_grid(block))
            case Fold():
                console.print(Styled(block.title, "underline"))
                _show_all(block.blocks, console)
            case _:
                raise TypeError(f"a terminal does not show {block}")


def _styled(text: Text | Cell) -> Styled:
    return Styled(text.text, STYLES[text.tone])


def _grid(table: Table) -> Grid:
    grid = Grid(header_style="bold", row_styles=("", "on grey11") if len(table.rows) > 1 else ("",))
    before = ""
    for column in table.columns:
        # A group's name stands above the first of its columns.
        above = column.group if column.group != before else ""
        heading = Styled("\n".join(filter(None, (above, column.title, column.aside))))
        fixed = not (column.numeric or column.wide)
        grid.add_column(heading, justify="right" if column.numeric else "left", overflow="fold", no_wrap=fixed)
        before = column.group
    for row in table.rows:
        grid.add_row(*map(_cell, row))
    return grid


def _cell(cell: Cell) -> Styled:
    return _styled(cell) + Styled(f" {cell.aside}" if cell.aside else "")

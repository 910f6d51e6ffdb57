"""A document as one HTML file that needs nothing else: library, data and style are inside, nothing is fetched."""

import json
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from report.document import Block, Cell, Chart, Column, Detail, Document, Table, trim

HERE = Path(__file__).parent
TEMPLATE = "page.html.j2"
# The Vega-Lite whose specifications the charts are.
VEGA_LITE = "6.4"


def render(document: Document) -> str:
    """Return the page."""
    shown = trim(document, Detail.FULL)
    specs = {
        block.name: block.specification
        for section in shown.sections
        for block in section.blocks
        if isinstance(block, Chart)
    }
    return _template().render(
        document=shown,
        # What goes into the page as it is (`safe`); the library only where there is something to draw.
        specs=json.dumps(specs, separators=(",", ":")).replace("<", "\\u003c") if specs else "",
        library=library() if specs else "",
        style=(HERE / "page.css").read_text(),
        script=(HERE / "page.js").read_text(),
    )


@cache
def library() -> str:
    """Return the script that draws; putting it together takes a second."""
    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    return str(script).replace("</script", "<\\/script")


@cache
def _template() -> Template:
    """Return the page to be filled in; compiling it takes longer than filling it in."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(kind=_kind, headings=_headings, cells=_cells)
    return environment.get_template(TEMPLATE)


def _kind(block: Block) -> str:
    return type(block).__name__


def _headings(table: Table) -> Iterator[tuple[str, list[Column]]]:
    """Yield the groups of columns by their name, which is empty for a column that is in none."""
    shown = [column for column in table.columns if not column.below]
    for group, columns in groupby(shown, lambda column: column.group):
        yield group, list(columns)


def _cells(row: Sequence[Cell], table: Table) -> Iterator[tuple[Column, list[Cell]]]:
    """Yield each cell with its column, and with the cells that stand below it."""
    placed: list[tuple[Column, list[Cell]]] = []
    for column, cell in zip(table.columns, row, strict=True):
        if column.below and placed:
            placed[-1][1].append(cell)
        else:
            placed.append((column, [cell]))
    yield from placed
